use super::*;
use crate::procfs::Identity;
use crate::run_dir::Folder;

const SOON: Duration = Duration::from_secs(60);

async fn postgres(folder: &Folder) -> PostgresServer {
    let options = PostgresOptions::default().with_setting("log_min_messages", "warning");
    let mut postgres = PostgresServer::postgres(&folder.run_dir(false), options).await.unwrap();
    postgres.start_anywhere(SOON).await.unwrap();
    postgres
}

fn processes(postgres: &PostgresServer) -> Vec<Identity> {
    let root = Identity::of(postgres.pid().unwrap()).unwrap();
    let mut all = root.descendants();
    all.push(root);
    all
}

fn value(text: &str) -> Vec<Row> {
    vec![vec![Some(text.to_owned())]]
}

#[tokio::test]
async fn a_killed_postgres_leaves_no_process_and_comes_back_with_its_rows() {
    let folder = Folder::temporary().unwrap();
    let mut postgres = postgres(&folder).await;
    postgres.create_database("a \"b\" 'c'").await.unwrap();
    postgres.create_database("chat").await.unwrap();
    postgres.create_database("chat").await.unwrap();
    let make = "CREATE TABLE t (word text); INSERT INTO t VALUES ('kept')";
    postgres.query("chat", make).await.unwrap();

    let before = processes(&postgres);
    assert!(before.len() > 3, "{before:?}");
    postgres.kill_9().await.unwrap();
    assert!(!before.iter().any(|process| process.is_alive()));
    assert!(!postgres.is_ready().await);
    let gone = postgres.query("chat", "SELECT 1").await;
    assert!(matches!(gone, Err(FleetError::NoAnswer { .. })));

    postgres.restart(SOON).await.unwrap();
    assert_eq!(postgres.query("chat", "SELECT word FROM t").await.unwrap(), value("kept"));
    let refused = postgres.query("chat", "SELECT * FROM nothing").await.unwrap_err();
    assert!(refused.to_string().contains("42P01"), "{refused}");
    assert!(postgres.terminate(SOON).await.unwrap().success());
}

#[tokio::test]
async fn a_stopped_postgres_stands_still_with_all_its_processes() {
    let folder = Folder::temporary().unwrap();
    let mut postgres = postgres(&folder).await;
    postgres.stop().await.unwrap();
    assert!(processes(&postgres).iter().all(|process| process.is_stopped()));
    let query = postgres.query("postgres", "SELECT 1");
    assert!(tokio::time::timeout(Duration::from_millis(200), query).await.is_err());
    postgres.cont().unwrap();
    postgres.ready(SOON).await.unwrap();
    postgres.stop().await.unwrap();

    let all = processes(&postgres);
    drop(postgres);
    assert!(!all.iter().any(|process| process.is_alive()));
}

#[tokio::test]
async fn the_owner_of_a_database_is_no_superuser() {
    let folder = Folder::temporary().unwrap();
    let postgres = postgres(&folder).await;
    postgres.create_database("chat").await.unwrap();
    assert!(answers(postgres.port(), "chat").await);
    assert!(postgres.url("chat").starts_with("postgres://roomcast@127.0.0.1:"));
    let sql = "SET ROLE roomcast; CREATE TABLE t (a int); REVOKE SELECT ON t FROM roomcast; \
               SELECT * FROM t";
    let refused = postgres.query("chat", sql).await.unwrap_err();
    assert!(refused.to_string().contains("42501"), "{refused}");
}

#[tokio::test]
async fn a_folder_that_is_used_again_has_its_databases() {
    let parent = tempfile::Builder::new().permissions(mode(0o711)).tempdir().unwrap();
    let path = parent.path().join("fleet");
    for _ in 0..2 {
        let folder = Folder::named(&path).await.unwrap();
        let mut postgres = postgres(&folder).await;
        postgres.create_database("chat").await.unwrap();
        postgres.query("chat", "CREATE TABLE IF NOT EXISTS t (a int)").await.unwrap();
        postgres.query("chat", "INSERT INTO t VALUES (1)").await.unwrap();
        postgres.terminate(SOON).await.unwrap();
    }
    let folder = Folder::named(&path).await.unwrap();
    let postgres = postgres(&folder).await;
    let count = postgres.query("chat", "SELECT count(*) FROM t").await.unwrap();
    assert_eq!(count, value("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_start_at_once_share_one_initdb() {
    let cache = tempfile::tempdir().unwrap();
    let parent = tempfile::Builder::new().permissions(mode(0o711)).tempdir().unwrap();
    let user = OsUser::find().unwrap();
    let initdb = find_installed("initdb", "postgresql", &program_folders()).unwrap();
    let template = Template::new(cache.path(), initdb, user.clone());
    let make = |name: &str| {
        let data = own_folder(&parent.path().join(name), user.as_ref()).unwrap().join("data");
        let template = template.clone();
        tokio::spawn(async move {
            template.place(&data).await.unwrap();
            std::fs::read(data.join("global/pg_control")).unwrap()
        })
    };
    let (one, other) = (make("one"), make("other"));
    // The same identifier of the system in both: one of them is a copy.
    assert_eq!(one.await.unwrap(), other.await.unwrap());
    let kept = cache.path().read_dir().unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(kept.count(), 1);
}

fn mode(mode: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}
