use super::*;
use crate::run_dir::Folder;

const SOON: Duration = Duration::from_secs(20);

async fn redis(options: RedisOptions) -> (RedisServer, Folder) {
    let folder = Folder::temporary().unwrap();
    let mut redis = RedisServer::redis(&folder.run_dir(false), options).unwrap();
    redis.start_anywhere(SOON).await.unwrap();
    (redis, folder)
}

#[tokio::test]
async fn a_killed_redis_comes_back_with_its_keys_on_the_same_port() {
    let (mut redis, _folder) = redis(RedisOptions::default()).await;
    let url = redis.url();
    redis.command(&["SET", "greeting", "good day\r\n"]).await.unwrap();
    redis.kill_9().await.unwrap();
    assert!(!redis.is_ready().await);
    redis.command(&["PING"]).await.unwrap_err();

    redis.restart(SOON).await.unwrap();
    assert_eq!(redis.url(), url);
    let greeting = redis.command(&["GET", "greeting"]).await.unwrap();
    assert_eq!(greeting.text(), Some("good day\r\n"));
    redis.command(&["FLUSHALL"]).await.unwrap();
    assert_eq!(redis.command(&["GET", "greeting"]).await.unwrap(), Reply::Nil);
    assert!(redis.terminate(SOON).await.unwrap().success());
}

#[tokio::test]
async fn a_stopped_redis_takes_connections_and_answers_nobody() {
    let (mut redis, _folder) = redis(RedisOptions::default()).await;
    redis.stop().await.unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", redis.port())).await;
    assert!(stream.is_ok());
    let ping = tokio::time::timeout(Duration::from_millis(200), redis.command(&["PING"]));
    assert!(ping.await.is_err());
    redis.cont().unwrap();
    redis.ready(SOON).await.unwrap();
    redis.command(&["PING"]).await.unwrap();
}

#[tokio::test]
async fn a_password_and_settings_reach_the_server() {
    let options = RedisOptions {
        append_fsync: AppendFsync::Always,
        password: Some("open \"sesame\"".to_owned()),
        ..RedisOptions::default()
    };
    let options = options.with_setting("maxmemory-policy", "allkeys-lru");
    let (redis, _folder) = redis(options).await;
    assert!(redis.url().starts_with("redis://:open%20%22sesame%22@127.0.0.1:"));
    let get = async |key| redis.command(&["CONFIG", "GET", key]).await.unwrap().array()[1].clone();
    assert_eq!(get("appendfsync").await.text(), Some("always"));
    assert_eq!(get("appendonly").await.text(), Some("yes"));
    assert_eq!(get("maxmemory-policy").await.text(), Some("allkeys-lru"));
    let refused = redis.command(&["CONFIG", "SET", "nonsense", "1"]).await;
    assert!(matches!(refused, Err(FleetError::Refused { .. })));

    let url = format!("redis://127.0.0.1:{}", redis.port());
    let stranger = reply::ask(&url, &["PING"]).await.unwrap();
    assert!(matches!(stranger, Reply::Error(text) if text.starts_with("NOAUTH")));
}
