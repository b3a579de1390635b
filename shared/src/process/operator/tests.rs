use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::process::readiness::Condition;

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    redis: Condition,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let readiness = Readiness::new();
        let redis = readiness.condition("redis");
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("roomcast_test_total", "A test.").unwrap();
        registry.register(Box::new(counter)).unwrap();
        let operator = Operator {
            readiness: readiness.clone(),
            registry,
            stats: Arc::new(|| serde_json::json!({"connections": {"totalRooms": 2}})),
            refresh: None,
        };
        let bound = operator.bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = bound.local_addr();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(bound.serve(shutdown.clone()));
        Self { address, readiness, redis, shutdown, served }
    }

    /// Status line, head and body of the answer.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn a_process_is_alive_before_it_is_ready() {
    let running = Running::start().await;
    let (status, _, body) = running.ask("GET", "/livez").await;
    assert_eq!((status, body.as_str()), (200, "ok"));
    let (status, _, body) = running.ask("GET", "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "redis: not reported yet\n"));
}

#[tokio::test]
async fn readiness_follows_its_conditions_and_the_drain() {
    let running = Running::start().await;
    running.redis.ready();
    assert_eq!(running.ask("GET", "/readyz").await.0, 200);
    running.redis.not_ready("no answer");
    assert_eq!(running.ask("GET", "/readyz?verbose").await.2, "redis: no answer\n");
    running.redis.ready();
    running.redis.degraded("refuses writes (MISCONF)");
    let (status, _, body) = running.ask("GET", "/readyz").await;
    assert_eq!((status, body.as_str()), (200, "degraded\nredis: refuses writes (MISCONF)\n"));
    let (_, _, body) = running.ask("GET", "/metrics").await;
    assert!(body.contains("\nroomcast_condition{condition=\"redis\"} 1\n"), "{body}");
    let (_, _, body) = running.ask("GET", "/stats").await;
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["readiness"]["state"], "degraded");
    running.redis.ready();
    running.readiness.begin_drain();
    let (status, _, body) = running.ask("GET", "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "drain: this process is leaving\n"));
}

#[tokio::test]
async fn metrics_hold_the_registry_and_the_figures_of_the_process() {
    let running = Running::start().await;
    let (status, head, body) = running.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nroomcast_test_total 0\n"), "{body}");
    assert!(body.contains("\nprocess_open_fds "), "{body}");
    assert!(body.contains("\nroomcast_log_lines_dropped_total "), "{body}");
}

#[tokio::test]
async fn stats_are_json() {
    let running = Running::start().await;
    let (status, head, body) = running.ask("GET", "/stats").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["connections"]["totalRooms"], 2);
}

#[tokio::test]
async fn other_routes_are_unknown() {
    let running = Running::start().await;
    assert_eq!(running.ask("GET", "/").await.0, 404);
    assert_eq!(running.ask("GET", "/livez/").await.0, 404);
}

#[tokio::test]
async fn a_head_is_asked_for_like_the_whole() {
    let running = Running::start().await;
    running.redis.not_ready("no answer");
    for path in ["/livez", "/readyz", "/metrics", "/stats", "/nowhere"] {
        let (status, _, _) = running.ask("GET", path).await;
        let (head_status, head, body) = running.ask("HEAD", path).await;
        assert_eq!((head_status, body.as_str()), (status, ""), "{path}");
        assert!(head.contains("content-length: ") && !head.contains("content-length: 0"), "{head}");
    }
}

#[tokio::test]
async fn only_get_and_its_head_are_methods() {
    let running = Running::start().await;
    for path in ["/livez", "/readyz", "/metrics", "/stats"] {
        let (status, head, _) = running.ask("POST", path).await;
        assert_eq!(status, 405);
        assert!(head.contains("allow: get, head"), "{head}");
    }
    assert_eq!(running.ask("POST", "/elsewhere").await.0, 404);
}

#[tokio::test]
async fn two_operators_may_share_a_registry() {
    let registry = Registry::new();
    for _ in 0..2 {
        let operator = Operator {
            readiness: Readiness::new(),
            registry: registry.clone(),
            stats: Arc::new(|| serde_json::Value::Null),
            refresh: None,
        };
        assert_ne!(operator.bind(([127, 0, 0, 1], 0).into()).await.unwrap().local_addr().port(), 0);
    }
}

#[tokio::test]
async fn shutdown_closes_the_port_and_idle_connections() {
    let running = Running::start().await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    // An answered request behind it shows that the idle connection has been accepted.
    assert_eq!(running.ask("GET", "/livez").await.0, 200);
    running.shutdown.cancel();
    running.served.await.unwrap();
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_request_is_cut_after_the_header_timeout() {
    let running = Running::start().await;
    let started = tokio::time::Instant::now();
    let mut stalled = TcpStream::connect(running.address).await.unwrap();
    stalled.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = Vec::new();
    stalled.read_to_end(&mut answer).await.unwrap();
    let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap();
    assert!((HEADER_TIMEOUT_MS..CONNECTION_TIMEOUT_MS).contains(&waited_ms), "{waited_ms} ms");
}

#[tokio::test(start_paused = true)]
async fn stalled_clients_take_no_more_than_their_share_and_only_for_a_while() {
    let running = Running::start().await;
    let started = tokio::time::Instant::now();
    let mut stalled = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        stalled.push(TcpStream::connect(running.address).await.unwrap());
    }
    assert_eq!(running.ask("GET", "/livez").await.0, 200);
    assert!(started.elapsed() >= Duration::from_millis(HEADER_TIMEOUT_MS));
}

#[tokio::test(start_paused = true)]
async fn running_out_of_file_descriptors_does_not_end_the_accept_loop() {
    const EMFILE: i32 = 24;
    let calls = Cell::new(0_u32);
    let started = tokio::time::Instant::now();
    let connection = accept_from(|| {
        calls.set(calls.get() + 1);
        let result = match calls.get() {
            1 | 2 => Err(io::Error::from_raw_os_error(EMFILE)),
            3 => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok("connection"),
        };
        async move { result }
    })
    .await;
    assert_eq!((connection, calls.get()), ("connection", 4));
    // One pause for each EMFILE, none for the connection that ended by itself.
    assert_eq!(started.elapsed(), Duration::from_millis(2 * ACCEPT_PAUSE_MS));
}
