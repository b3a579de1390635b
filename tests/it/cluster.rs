//! Several gateways and workers over a real Redis and a real Postgres, and what is done to them.

mod away_table;
mod changes;
mod clocks;
mod degraded;
mod duplicates;
mod erasing;
mod faults;
mod full_redis;
mod full_speed;
mod gentle;
mod joins;
mod journal;
mod known_away;
mod large_rooms;
mod leftovers;
mod logging;
mod losses;
mod memory;
mod neighbours;
mod outage;
mod pooled;
mod presence;
mod receipts;
mod refused;
mod removal;
mod schedules;
mod set_back;
mod rate_limits;
mod credits;
mod standstill;
mod start_up;
mod streams;
mod table;
mod takeovers;
mod waiting;
mod fork;

use std::time::Duration;

use fleet::{ClusterOptions, Fleet, GatewayOptions, WorkerOptions};
use harness::checker::check_all;
use harness::sim_client::Record;
use harness::{Expect, Row, SimClient, SimClientOptions, eventually};

use crate::fixtures::SOON;

/// Longer than a takeover, a restart of everything, and what follows, on a machine that others keep
/// busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// Leases are short, so that a takeover does not take the test's time.
fn options() -> ClusterOptions {
    ClusterOptions {
        gateways: 2,
        workers: 2,
        gateway: GatewayOptions::default(),
        worker: WorkerOptions::default().with_env("ROOMCAST_LEASE_MS", "1500"),
        ..ClusterOptions::default()
    }
}

/// Two gateways, two workers, ready.
pub(crate) async fn cluster() -> Fleet {
    Fleet::cluster(options()).await.expect("a cluster")
}

/// Every message in Postgres.
async fn rows(fleet: &Fleet) -> Result<Vec<Row>, String> {
    let select = "SELECT team_chat_id, epoch, seq, id, user_id, content \
                  FROM team_chat_messages ORDER BY team_chat_id, epoch, seq";
    let rows = fleet.postgres().query(fleet.database(), select).await.map_err(|e| e.to_string())?;
    rows.into_iter().map(|row| read(row).ok_or("a row has an empty column".to_owned())).collect()
}

fn read(row: Vec<Option<String>>) -> Option<Row> {
    let mut columns = row.into_iter();
    let mut next = || columns.next().flatten();
    Some(Row {
        room: next()?,
        epoch: next()?.parse().ok()?,
        seq: next()?.parse().ok()?,
        id: next()?,
        user: next()?,
        content: next()?,
    })
}

/// How many messages are in Postgres; none while it does not answer.
async fn stored(fleet: &Fleet) -> usize {
    let count = "SELECT count(*) FROM team_chat_messages";
    let answer = fleet.postgres().query(fleet.database(), count).await;
    let count = answer.ok().and_then(|mut rows| rows.pop()?.pop()?);
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// People in rooms, spread over all gateways; each knows the others' addresses too.
struct Crowd {
    chatters: Vec<SimClient>,
    rooms: Vec<String>,
}

impl Crowd {
    async fn begin(fleet: &Fleet, rooms: usize, people: usize) -> Crowd {
        let rooms: Vec<String> = (0..rooms).map(|room| format!("room-{room}")).collect();
        let urls: Vec<String> = fleet.gateways().iter().map(fleet::GatewayNode::ws_url).collect();
        let start = |number: usize| {
            let user = format!("user-{number}");
            let room = rooms[number % rooms.len()].as_str();
            let mut urls = urls.clone();
            let nodes = urls.len();
            urls.rotate_left((number / rooms.len()) % nodes);
            let options = SimClientOptions::new(&user, &urls[0], &[room]);
            SimClient::start(SimClientOptions { urls, whole_history: true, ..options })
        };
        let chatters: Vec<SimClient> = (0..people * rooms.len()).map(start).collect();
        for chatter in &chatters {
            chatter.settled_in(SOON).await;
        }
        Crowd { chatters, rooms }
    }

    fn room(&self, chatter: usize) -> &str {
        &self.rooms[chatter % self.rooms.len()]
    }

    fn say(&self, count: usize) {
        for (number, chatter) in self.chatters.iter().enumerate() {
            for text in 0..count {
                chatter.say(self.room(number), &format!("text {text} of {number}"));
            }
        }
    }

    fn acked(&self) -> usize {
        self.chatters.iter().map(|chatter| chatter.look(|record| record.acked.len())).sum()
    }

    fn resets(&self) -> u64 {
        self.chatters.iter().map(|chatter| chatter.look(Record::resets)).sum()
    }

    /// Waits until so many messages are accepted.
    async fn until_acked(&self, count: usize) {
        let enough = || async {
            let acked = self.acked();
            if acked >= count { Ok(()) } else { Err(format!("{acked} of {count} are accepted")) }
        };
        eventually(PATIENCE, "the talk goes on", enough).await;
    }

    /// Waits until so many messages are known to be in the database. One whose ack was lost with
    /// its connection is among them: its sender found it in the room afterwards.
    async fn until_persisted(&self, count: usize) {
        let persisted =
            || self.chatters.iter().map(|c| c.look(|record| record.persisted.len())).sum::<usize>();
        let enough = || async {
            let persisted = persisted();
            if persisted >= count { Ok(()) } else { Err(format!("{persisted} of {count}")) }
        };
        eventually(PATIENCE, "everything is persisted", enough).await;
    }

    /// Waits until everything is persisted and every promise holds.
    async fn ends_well(&self, fleet: &Fleet, expect: Expect) {
        for chatter in &self.chatters {
            chatter.all_persisted(PATIENCE).await;
        }
        let kept = || async {
            let rows = rows(fleet).await?;
            let records: Vec<Record> = self.chatters.iter().map(SimClient::record).collect();
            let broken = check_all(&records, &rows, &expect);
            if broken.is_empty() { Ok(()) } else { Err(broken.join("\n  ")) }
        };
        eventually(PATIENCE, "all promises are kept", kept).await;
    }
}
