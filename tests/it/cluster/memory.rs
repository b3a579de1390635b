//! Processes that are given little memory: they keep within it, whatever comes in.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet::{ClusterOptions, Fleet, GatewayOptions, WorkerOptions};
use harness::client::ClientError;
use harness::{Client, RawSocket, eventually, unique_id};
use serde_json::json;
use shared::contract::id::RoomId;
use shared::contract::limits::SHARDS;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PATIENCE, options, rows};
use crate::fixtures::client;
use crate::removal::api;

const MIB: u64 = 1024 * 1024;
const GATEWAY_BYTES: u64 = 128 * MIB;
const WORKER_BYTES: u64 = 64 * MIB;

/// Who listens, and who says something.
const MEMBERS: usize = 200;
const WRITERS: usize = 8;

fn seconds() -> u64 {
    std::env::var("MEMORY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn small() -> ClusterOptions {
    let mut gateway =
        GatewayOptions::default().with_env("ROOMCAST_MEMORY_BYTES_MAX", GATEWAY_BYTES.to_string());
    for limit in ["WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "ROOMCAST_RATE_LIMIT_LOOKUP"] {
        gateway = gateway.with_env(limit, "1000000");
    }
    let gateway = gateway
        .with_env("ROOMCAST_RATE_LIMIT_COMMAND", "1000000")
        .with_env("ROOMCAST_BLOCK_AFTER", "0")
        // So that it is full within the time.
        .with_env("ROOMCAST_JOURNAL_BYTES_MAX", (32 * MIB).to_string());
    let worker =
        WorkerOptions::default().with_env("ROOMCAST_MEMORY_BYTES_MAX", WORKER_BYTES.to_string());
    ClusterOptions { gateways: 1, workers: 1, gateway, worker, ..options() }
}

/// The most that a process was seen to use, looked at again and again.
struct Watched {
    most: Arc<AtomicU64>,
    watching: JoinSet<()>,
}

impl Watched {
    fn begin(pid: u32) -> Watched {
        let (most, mut watching) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let seen = Arc::clone(&most);
        watching.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
                    return;
                };
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let kib =
                    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
                seen.fetch_max(kib.unwrap_or(0) * 1024, Ordering::Relaxed);
            }
        });
        Watched { most, watching }
    }

    fn end(mut self) -> u64 {
        self.watching.abort_all();
        self.most.load(Ordering::Relaxed)
    }
}

/// Members who read whatever comes, and keep nothing.
async fn members(fleet: &Fleet, rooms: usize) -> JoinSet<()> {
    let mut members = JoinSet::new();
    for number in 0..MEMBERS {
        let path = format!("/ws?user=member{number}");
        let mut socket =
            RawSocket::upgraded(fleet.gateway().port(), &path, PATIENCE).await.unwrap();
        let room = format!("room{}", number % rooms);
        let join = json!({ "event": "room:join", "ref": 1, "data": { "roomId": room } });
        socket.send(&harness::raw::text(&join.to_string())).await.unwrap();
        members.spawn(async move { while socket.next_frame(PATIENCE).await.is_ok() {} });
    }
    members
}

/// Says something again and again until `until`; gives the ids of what was accepted, and how often
/// there was no room.
async fn write(alice: &Client, room: &str, content: &str, until: Instant) -> (Vec<String>, u64) {
    let (mut accepted, mut refused, at_last) = (Vec::new(), 0, until + PATIENCE);
    while Instant::now() < until || (refused == 0 && Instant::now() < at_last) {
        let ids: Vec<String> = (0..4).map(|_| unique_id()).collect();
        let sent = ids.iter().map(|id| alice.send(room, id, content));
        for (id, sent) in ids.iter().zip(futures_util::future::join_all(sent).await) {
            match sent {
                Ok(_) => accepted.push(id.clone()),
                Err(ClientError::Refused(refusal)) if refusal.code == "backpressure" => {
                    refused += 1
                }
                // Where it takes too long it may stand: it counts as neither.
                Err(ClientError::Refused(refusal)) if refusal.code == "unavailable" => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    (accepted, refused)
}

/// Full-speed writing while the worker stands still: neither process takes more than it may,
/// senders are told so, and when the worker goes on everything that was accepted is stored.
async fn keep_within_their_memory(content_bytes: usize) {
    let fleet = Fleet::cluster(small()).await.unwrap();
    let _members = members(&fleet, WRITERS).await;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let writer = client(fleet.gateway(), &format!("writer{number}")).await;
        writer.join(&format!("room{number}"), None).await.unwrap();
        writers.push(writer);
    }
    let gateway = Watched::begin(fleet.gateway().pid().unwrap());
    let worker = Watched::begin(fleet.workers()[0].pid().unwrap());
    fleet.workers()[0].stop().await.unwrap();
    let until = Instant::now() + Duration::from_secs(seconds());
    let content = "x".repeat(content_bytes);
    let writing = writers.iter().enumerate().map(|(number, writer)| {
        let (room, content) = (format!("room{number}"), content.clone());
        async move { write(writer, &room, &content, until).await }
    });
    let written = futures_util::future::join_all(writing).await;
    let accepted: BTreeSet<String> = written.iter().flat_map(|(ids, _)| ids.clone()).collect();
    let refused: u64 = written.iter().map(|(_, refused)| refused).sum();
    assert!(!accepted.is_empty() && refused > 0, "{} and {refused}", accepted.len());

    fleet.workers()[0].cont().unwrap();
    let stored = || async {
        let stored: BTreeSet<String> = rows(&fleet).await?.into_iter().map(|row| row.id).collect();
        let lost = accepted.difference(&stored).count();
        if lost == 0 { Ok(()) } else { Err(format!("{lost} of {} are not stored", accepted.len())) }
    };
    eventually(PATIENCE, "what was accepted is stored", stored).await;
    let goes_on = || async {
        writers[0].send("room0", &unique_id(), "and on").await.map_err(|error| format!("{error:?}"))
    };
    eventually(PATIENCE, "the service goes on", goes_on).await;
    let (gateway, worker) = (gateway.end(), worker.end());
    assert!(gateway < GATEWAY_BYTES, "the gateway took {} MiB", gateway / MIB);
    assert!(worker < WORKER_BYTES, "the worker took {} MiB", worker / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_at_full_speed_take_no_more_than_a_process_may() {
    keep_within_their_memory(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_at_full_speed_take_no_more_than_a_process_may() {
    keep_within_their_memory(200 * 1024).await;
}

/// How much waits for the worker, in MiB; and how much of it a gateway may have accepted.
fn backlog_mib() -> u64 {
    std::env::var("BACKLOG_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}
const GATEWAY_BACKLOG_MIB: u64 = 200;

/// Rooms of which each is in a shard of its own.
fn rooms_apart(count: usize) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let names = (0..).map(|number| format!("room{number}"));
    let apart = names.filter(|name| taken.insert(RoomId::parse(name).unwrap().shard()));
    apart.take(count).collect()
}

/// A backlog of the largest messages is many times what the worker may use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_arrives_through_a_worker_that_has_little_memory() {
    const CONTENT_BYTES: u64 = 200 * 1024;
    const TOGETHER: usize = 16;
    let messages = backlog_mib() * MIB / CONTENT_BYTES;
    let gateways = backlog_mib().div_ceil(GATEWAY_BACKLOG_MIB) as u32;
    let mut options = ClusterOptions { gateways: gateways as usize, ..small() };
    options.gateway.env.remove("ROOMCAST_MEMORY_BYTES_MAX");
    let fleet = Fleet::cluster(options).await.unwrap();
    let rooms = rooms_apart(usize::from(SHARDS));
    fleet.workers()[0].stop().await.unwrap();
    let content = "x".repeat(CONTENT_BYTES as usize);
    let writing = fleet.gateways().iter().enumerate().map(|(number, gateway)| {
        let (content, rooms) = (content.as_str(), &rooms);
        let own = (number as u64..messages).step_by(gateways as usize).collect::<Vec<_>>();
        async move {
            for part in own.chunks(TOGETHER) {
                let api = api(gateway);
                let said = part.iter().map(|number| {
                    let room = &rooms[*number as usize % rooms.len()];
                    let message = json!({ "userId": "backend", "content": content });
                    let api = &api;
                    async move {
                        let path = format!("/api/rooms/{room}/messages");
                        api.ask("POST", &path, Some(&message)).await.expect(201);
                    }
                });
                futures_util::future::join_all(said).await;
            }
        }
    });
    futures_util::future::join_all(writing).await;
    let worker = Watched::begin(fleet.workers()[0].pid().unwrap());
    fleet.workers()[0].cont().unwrap();
    let sum = "SELECT count(*), sum(octet_length(content)) FROM team_chat_messages";
    let wanted = [messages, messages * CONTENT_BYTES].map(|number| Some(number.to_string()));
    let stored = || async {
        let stored = fleet.postgres().query(fleet.database(), sum).await;
        let stored = stored.map_err(|error| error.to_string())?.remove(0);
        if stored == wanted { Ok(()) } else { Err(format!("{stored:?} of {wanted:?}")) }
    };
    eventually(PATIENCE * gateways, "all of it is stored", stored).await;
    let worker = worker.end();
    assert!(worker < WORKER_BYTES, "the worker took {} MiB", worker / MIB);
}

/// Pages of a mebibyte are asked for by people who read nothing: they are cut, others are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_read_nothing_take_no_more_than_a_process_may() {
    const PEOPLE: usize = 300;
    let fleet = Fleet::cluster(small()).await.unwrap();
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let content = "x".repeat(200 * 1024);
    for _ in 0..5 {
        alice.send("r", &unique_id(), &content).await.unwrap();
    }
    let gateway = Watched::begin(fleet.gateway().pid().unwrap());
    let mut silent = Vec::with_capacity(PEOPLE);
    for number in 0..PEOPLE {
        let path = format!("/ws?user=silent{number}");
        let mut socket =
            RawSocket::upgraded(fleet.gateway().port(), &path, PATIENCE).await.unwrap();
        for reference in 0..8 {
            let ask =
                json!({ "event": "history:get", "ref": reference, "data": { "roomId": "r" } });
            // It may be cut already.
            let _ = socket.send(&harness::raw::text(&ask.to_string())).await;
        }
        silent.push(socket);
    }
    let cut = || async {
        let metrics = fleet.gateway().metrics().await.map_err(|error| error.to_string())?;
        let cut = metrics.sum("roomcast_connections_closed_total");
        if cut > 0.0 { Ok(()) } else { Err("nobody is cut".to_owned()) }
    };
    eventually(PATIENCE, "who reads nothing is cut", cut).await;
    let served = || async {
        let sent = alice.send("r", &unique_id(), "and on").await;
        sent.map_err(|error| format!("{error:?}"))
    };
    eventually(PATIENCE, "others are served", served).await;
    let most = gateway.end();
    assert!(most < GATEWAY_BYTES, "the gateway took {} MiB", most / MIB);
}

/// What rooms remember waits for nobody: however many they are, people are let in, and nobody is
/// cut for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rooms_that_remember_much_keep_nobody_out() {
    const PEOPLE: usize = 16;
    const ROOMS_EACH: usize = 20;
    let mut options = small();
    for limit in ["WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "ROOMCAST_ROOMS_PER_USER"] {
        options.gateway = options.gateway.with_env(limit, "1000");
    }
    let fleet = Fleet::cluster(options).await.unwrap();
    let content = "x".repeat(25 * 1024);
    let talking = (0..PEOPLE).map(|number| {
        let (fleet, content) = (&fleet, content.as_str());
        async move {
            let member = client(fleet.gateway(), &format!("member{number}")).await;
            for room in 0..ROOMS_EACH {
                let room = format!("room{number}-{room}");
                member.join(&room, None).await.unwrap();
                for _ in 0..2 {
                    let said = || async {
                        let sent = member.send(&room, &unique_id(), content).await;
                        sent.map(drop).map_err(|error| format!("{error:?}"))
                    };
                    eventually(PATIENCE, "it is taken", said).await;
                }
            }
            member
        }
    });
    let members = futures_util::future::join_all(talking).await;
    for (number, member) in members.iter().enumerate() {
        let guest = client(fleet.gateway(), &format!("guest{number}")).await;
        let joined = guest.join(&format!("room{number}-0"), None).await.unwrap();
        assert_eq!(joined.messages.len(), 2);
        member.history("room0-0", json!({})).await.unwrap();
    }
}
