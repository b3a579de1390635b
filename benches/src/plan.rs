//! How many processes a number of people needs, by what each thing was measured to cost.
//!
//! The costs are those of `docs/CAPACITY.md`, which says how each was measured.

use std::fmt::Write;

/// What people do.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Plan {
    /// People who are connected at the same time, each with one connection
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub people: u64,
    /// Members of a room who are connected
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub members: u64,
    /// Messages that each of them says in an hour
    #[arg(long, value_name = "N", default_value_t = 6.0, value_parser = not_negative)]
    pub messages: f64,
    /// Arrivals of each of them in an hour
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = not_negative)]
    pub arrivals: f64,
    /// Changes of presence, typing and receipts of each of them in an hour
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = not_negative)]
    pub changes: f64,
    /// How much of a core is to be used at most, in percent; the rest is for peaks and for a node
    /// that is away
    #[arg(long, value_name = "PERCENT", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    pub full: u64,
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("not 0 or more".to_owned()) }
}

/// What things cost a part, in µs of CPU time.
#[derive(Debug, Clone, Copy)]
struct Costs {
    /// A connection that says nothing, for a second.
    idle_second: f64,
    message: f64,
    /// Each node but the sender's that has members of the room.
    publication: f64,
    /// Each member.
    delivery: f64,
    change: f64,
    arrival: f64,
}

const GATEWAY: Costs = Costs {
    idle_second: 0.5,
    message: 60.0,
    publication: 30.0,
    delivery: 10.0,
    change: 60.0,
    arrival: 180.0,
};
const REDIS: Costs = Costs {
    idle_second: 0.6,
    message: 60.0,
    publication: 2.0,
    delivery: 0.0,
    change: 25.0,
    arrival: 45.0,
};
const WORKER: Costs = Costs {
    idle_second: 0.0,
    message: 12.0,
    publication: 0.0,
    delivery: 0.0,
    change: 0.0,
    arrival: 0.0,
};
const POSTGRES: Costs = Costs { message: 40.0, arrival: 100.0, ..WORKER };

/// Resident memory of a connection in a room, and what the kernel keeps for its socket.
const CONNECTION_KIB: f64 = 6.0 + 4.0;

/// Connections of one node at most: more come back at once when it goes than others can take.
const CONNECTIONS_PER_NODE: f64 = 50_000.0;

impl Plan {
    fn people(&self) -> f64 {
        self.people as f64
    }

    /// Cores that a part uses, all of it together.
    fn cores(&self, costs: Costs) -> f64 {
        let hourly = |each: f64| self.people() * each / 3600.0;
        let messages = hourly(self.messages);
        let others = self.nodes_of_a_room() - 1.0;
        let message =
            costs.message + costs.publication * others + costs.delivery * self.members as f64;
        let micros = self.people() * costs.idle_second
            + messages * message
            + hourly(self.changes) * costs.change
            + hourly(self.arrivals) * costs.arrival;
        micros / 1e6
    }

    /// On how many nodes the members of a room are, where each comes to any of them.
    fn nodes_of_a_room(&self) -> f64 {
        let nodes = (self.people() / CONNECTIONS_PER_NODE).ceil().max(1.0);
        nodes * (1.0 - (1.0 - 1.0 / nodes).powf(self.members as f64))
    }

    /// What has to be there.
    #[must_use]
    pub fn text(&self) -> String {
        let full = self.full as f64 / 100.0;
        let parts = [
            ("gateway", self.cores(GATEWAY)),
            ("redis", self.cores(REDIS)),
            ("sync-worker", self.cores(WORKER)),
            ("postgres", self.cores(POSTGRES)),
        ];
        let mut text = String::new();
        let messages = self.people() * self.messages / 3600.0;
        let _ = writeln!(
            text,
            "{} people, {messages:.0} messages and {:.0} deliveries a second\n",
            self.people,
            messages * self.members as f64
        );
        let _ = writeln!(text, "{:<14}{:>12}{:>14}", "part", "cores used", "to have");
        for (name, cores) in parts {
            let _ = writeln!(text, "{name:<14}{cores:>12.2}{:>14.0}", (cores / full).ceil());
        }
        let by_memory = self.people() / CONNECTIONS_PER_NODE;
        let by_cpu = self.cores(GATEWAY) / full;
        let nodes = by_memory.max(by_cpu).ceil().max(1.0) + 1.0;
        let mib = self.people() / nodes * CONNECTION_KIB / 1024.0;
        let _ = writeln!(
            text,
            "\n{nodes:.0} gateways of a core, one of them to spare, with {mib:.0} MiB each for \
             connections beside 256 MiB"
        );
        let redis = (self.cores(REDIS) / full).ceil();
        if redis > 1.0 {
            let _ = writeln!(
                text,
                "Redis needs {redis:.0} cores, and one server is one core: this version speaks to \
                 one, so the rooms have to be shared by {redis:.0} deployments"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(people: u64) -> Plan {
        Plan { people, members: 10, messages: 6.0, arrivals: 1.0, changes: 20.0, full: 50 }
    }

    #[test]
    fn ten_times_as_many_need_about_ten_times_as_much() {
        for costs in [GATEWAY, REDIS, WORKER, POSTGRES] {
            let (some, many) = (plan(100_000).cores(costs), plan(1_000_000).cores(costs));
            assert!((9.9..20.0).contains(&(many / some)), "{some} {many}");
        }
    }

    #[test]
    fn what_one_redis_cannot_do_is_said() {
        assert!(!plan(10_000).text().contains("deployments"));
        assert!(plan(10_000_000).text().contains("deployments"));
    }

    #[test]
    fn a_room_is_on_as_many_nodes_as_it_has_members_at_most() {
        assert!((plan(1000).nodes_of_a_room() - 1.0).abs() < 1e-9);
        let many = plan(100_000_000).nodes_of_a_room();
        assert!(many > 9.9 && many <= 10.0, "{many}");
    }
}
