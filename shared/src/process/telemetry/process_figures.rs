//! What every process says of itself: its version, its memory, its CPU time, its files.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::process::memory;

/// Which commit the program was built from, where whoever built it said so.
const REVISION: &str = match option_env!("ROOMCAST_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Adds `roomcast_build_info`, `roomcast_memory_bytes_max` and the standard `process_` figures; a
/// registry that has them stays as it is.
pub(crate) fn register(registry: &Registry) {
    let help = "The program that runs: always 1.";
    let build = IntGaugeVec::new(Opts::new("roomcast_build_info", help), &["version", "revision"])
        .expect("the name of a metric is checked by every test that makes it");
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION]).set(1);
    let help = "Bytes of memory that the process may use: its container's or the machine's.";
    let memory = IntGauge::new("roomcast_memory_bytes_max", help)
        .expect("the name of a metric is checked by every test that makes it");
    memory.set(i64::try_from(memory::available().unwrap_or(0)).unwrap_or(i64::MAX));
    let process = ProcessFigures(ProcessCollector::for_self());
    let collectors: [Box<dyn Collector>; 3] =
        [Box::new(build), Box::new(memory), Box::new(process)];
    for collector in collectors {
        match registry.register(collector) {
            // There already is as good as there: two ports may share a registry.
            Ok(()) | Err(prometheus::Error::AlreadyReg) => {}
            Err(error) => tracing::warn!(%error, "no process figures in the metrics"),
        }
    }
}

/// The prometheus crate's, but for the CPU time, of which it says whole seconds only.
struct ProcessFigures(ProcessCollector);

impl Collector for ProcessFigures {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let cpu = families.iter_mut().find(|family| family.name() == "process_cpu_seconds_total");
        let metric = cpu.and_then(|family| family.mut_metric().first_mut());
        if let (Some(metric), Some(seconds)) = (metric, cpu_seconds()) {
            let mut counter = Counter::default();
            counter.set_value(seconds);
            metric.set_counter(counter);
        }
        families
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_has_fractions_and_nothing_is_registered_twice() {
        let registry = Registry::new();
        register(&registry);
        register(&registry);
        let mut spun = 0_u64;
        let text = loop {
            (0..1_000_000).for_each(|n| spun = spun.wrapping_mul(31).wrapping_add(n));
            let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            let line = text.lines().find(|line| line.starts_with("process_cpu_seconds_total "));
            if line.is_some_and(|line| line.contains('.')) {
                break text;
            }
        };
        assert!(spun > 0);
        for name in ["roomcast_build_info{", "roomcast_memory_bytes_max ", "process_open_fds "] {
            assert_eq!(text.lines().filter(|line| line.starts_with(name)).count(), 1, "{name}");
        }
    }
}
