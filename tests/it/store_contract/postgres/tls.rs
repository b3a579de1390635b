//! The way to the database, encrypted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::getuid;
use shared::store::{Store, StoreError};

use super::{connect, fresh_database, shell};

/// A certificate of `localhost`'s own, and its key, which the server may read and others may not.
fn make_certificate(folder: &Path) -> std::io::Result<bool> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "key.pem"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out", "cert.pem"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()?;
    if getuid().is_root() {
        let owned = Command::new("chown").args(["-R", "postgres"]).arg(folder).status()?;
        assert!(owned.success());
    }
    Ok(made.success())
}

#[tokio::test]
async fn tls_is_used_where_asked_for_and_only_with_a_server_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    if !make_certificate(folder.path()).is_ok_and(|made| made) {
        println!("SKIPPED: no openssl here");
        return;
    }
    let (url, _guard) = fresh_database().await;
    let path = folder.path().display();
    let shell = shell(&url).await;
    for setting in [
        format!("ssl_cert_file = '{path}/cert.pem'"),
        format!("ssl_key_file = '{path}/key.pem'"),
        "ssl = on".to_owned(),
    ] {
        shell.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    shell.batch_execute("SELECT pg_reload_conf()").await.unwrap();

    let by_name = url.replacen("127.0.0.1", "localhost", 1);
    let trusting = format!("sslrootcert={path}/cert.pem");
    let store = connect(&format!("{by_name}?sslmode=verify-full&{trusting}"));
    let within = Duration::from_secs(10);
    harness::eventually(within, "the server has its certificate", || store.migrate()).await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'roomcast' AND datname = current_database()";
    assert!(shell.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0));
    store.close();

    for (url, options) in
        [(&by_name, "sslmode=require"), (&url, &*format!("sslmode=require&{trusting}"))]
    {
        // Nobody trusted has signed it; and it is another name's.
        let refused = connect(&format!("{url}?{options}")).ping().await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(format!("{refused:?}").contains("ertificate"), "{refused:?}");
    }
    connect(&format!("{url}?sslmode=prefer")).ping().await.unwrap();
    shell.batch_execute("ALTER SYSTEM RESET ssl").await.unwrap();
    shell.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}
