//! Latencies and their percentiles.

use hdrhistogram::Histogram;

/// The longest that is told apart: ten minutes, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;

/// Latencies in nanoseconds, kept to three digits.
#[derive(Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// The percentiles that are reported, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 90 of a hundred took no longer.
    pub p90: f64,
    /// 99 of a hundred took no longer.
    pub p99: f64,
    /// 999 of a thousand took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(LONGEST_NS, 3);
        Self { histogram: histogram.expect("three digits of ten minutes are within its bounds") }
    }
}

impl Latencies {
    /// Counts one; what took longer than ten minutes counts as ten minutes.
    pub fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos.max(1));
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// What there is so far; zeros where there is nothing.
    #[expect(clippy::cast_precision_loss, reason = "ten minutes fit")]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e6;
        Percentiles {
            count: self.histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles().count, 0);
        for ms in 1..=1000_u64 {
            latencies.record(ms * 1_000_000);
        }
        let found = latencies.percentiles();
        let near = |a: f64, b: f64| assert!((a - b).abs() <= b * 0.002, "{a} is not near {b}");
        assert_eq!(found.count, 1000);
        near(found.p50, 500.0);
        near(found.p90, 900.0);
        near(found.p99, 990.0);
        near(found.p999, 999.0);
        near(found.max, 1000.0);
    }

    #[test]
    fn one_slow_delivery_in_a_hundred_is_seen_at_the_99th_and_not_at_the_90th() {
        let mut latencies = Latencies::default();
        (0..980).for_each(|_| latencies.record(1_000_000));
        (0..20).for_each(|_| latencies.record(80_000_000));
        let found = latencies.percentiles();
        assert!(found.p90 < 1.1 && found.p99 > 79.0, "{found:?}");
        latencies.record(u64::MAX);
        assert!(latencies.percentiles().max > 590_000.0);
    }
}
