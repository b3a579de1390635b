//! Declares Prometheus metrics as one struct of handles.
//!
//! Counting must cost an atomic addition and nothing else, so no label is looked up per event: a
//! labelled counter is a [`CounterBy`], one plain counter for each variant of a closed enum. That
//! also keeps rooms, users and connections out of the labels, where they must never be.

use std::marker::PhantomData;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::contract::refusal::{CloseReason, RefusalCode};

/// A closed set of label values.
pub trait Label: Copy + PartialEq + 'static {
    /// Every variant, once.
    const ALL: &'static [Self];

    /// The value in Prometheus, in snake case.
    fn label(&self) -> &'static str;
}

/// One counter for each variant of `E`, all of them there from the start.
#[derive(Debug, Clone)]
pub struct CounterBy<E> {
    /// In the order of `E::ALL`.
    counters: Box<[IntCounter]>,
    label: PhantomData<E>,
}

impl<E: Label> CounterBy<E> {
    /// Registers the counters under `name`, with `label` as the one label's name.
    ///
    /// # Panics
    /// If the registry has that name already, or Prometheus does not allow it.
    #[must_use]
    pub fn register(name: &str, help: &str, label: &str, registry: &Registry) -> Self {
        let family = IntCounterVec::new(Opts::new(name, help), &[label])
            .expect("the name of a metric and its label are checked by every test that makes it");
        registry.register(Box::new(family.clone())).expect("a metric is registered once");
        let counters = E::ALL.iter().map(|each| family.with_label_values(&[each.label()]));
        Self { counters: counters.collect(), label: PhantomData }
    }

    /// Counts one more event of this kind.
    pub fn inc(&self, variant: E) {
        self.inc_by(variant, 1);
    }

    /// Counts `amount` more events of this kind.
    pub fn inc_by(&self, variant: E, amount: u64) {
        if let Some(counter) = self.of(variant) {
            counter.inc_by(amount);
        }
    }

    /// The count of this kind.
    #[must_use]
    pub fn get(&self, variant: E) -> u64 {
        self.of(variant).map_or(0, IntCounter::get)
    }

    fn of(&self, variant: E) -> Option<&IntCounter> {
        let index = E::ALL.iter().position(|each| *each == variant);
        debug_assert!(index.is_some(), "Label::ALL lacks {}", variant.label());
        index.and_then(|index| self.counters.get(index))
    }
}

/// Buckets of a latency, from half a millisecond to what nobody waits for any more.
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Label for RefusalCode {
    const ALL: &'static [RefusalCode] = &RefusalCode::ALL;

    fn label(&self) -> &'static str {
        self.as_str()
    }
}

impl Label for CloseReason {
    const ALL: &'static [CloseReason] = &CloseReason::ALL;

    fn label(&self) -> &'static str {
        CloseReason::label(*self)
    }
}

/// Declares a struct of metrics; a field's doc is its help, prefix and field make its name.
///
/// Kinds: `counter` ([`IntCounter`]), `gauge` ([`IntGauge`](prometheus::IntGauge)),
/// `gauge_seconds` ([`Gauge`](prometheus::Gauge), where whole ones are too coarse),
/// `histogram(buckets)` ([`Histogram`](prometheus::Histogram), seconds or bytes as the name says)
/// and `counter_by(label: Enum)` ([`CounterBy`]). The struct gets
/// `register(&prometheus::Registry) -> Self`, which panics if a name is taken.
///
/// ```
/// shared::metrics! {
///     /// What the mill counts.
///     pub struct MillMetrics, prefix "mill_" {
///         /// Sacks of flour ground since the start.
///         sacks_total: counter,
///         /// Seconds that grinding a sack took.
///         grinding_seconds: histogram([0.1, 1.0, 10.0]),
///     }
/// }
/// let metrics = MillMetrics::register(&prometheus::Registry::new());
/// metrics.sacks_total.inc();
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident, prefix $prefix:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $kind:ident $(($($argument:tt)*))?
            ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $(
                $(#[doc = $doc])+
                $vis $field: $crate::metrics!(@type $kind $($($argument)*)?),
            )+
        }

        impl $name {
            /// Registers every metric of this struct.
            ///
            /// # Panics
            /// If the registry has one of the names already.
            #[must_use]
            $vis fn register(registry: &::prometheus::Registry) -> Self {
                Self {
                    $(
                        $field: $crate::metrics!(
                            @register $kind
                            (concat!($prefix, stringify!($field)))
                            (concat!($($doc),+).trim_ascii())
                            registry
                            $($($argument)*)?
                        ),
                    )+
                }
            }
        }
    };

    (@type counter) => { ::prometheus::IntCounter };
    (@type gauge) => { ::prometheus::IntGauge };
    (@type gauge_seconds) => { ::prometheus::Gauge };
    (@type histogram $buckets:expr) => { ::prometheus::Histogram };
    (@type counter_by $label:ident: $enum:ty) => {
        $crate::process::telemetry::metrics::CounterBy<$enum>
    };

    (@register counter $name:tt $help:tt $registry:ident) => {
        $crate::metrics!(@add ::prometheus::IntCounter::new($name, $help), $registry)
    };
    (@register gauge $name:tt $help:tt $registry:ident) => {
        $crate::metrics!(@add ::prometheus::IntGauge::new($name, $help), $registry)
    };
    (@register gauge_seconds $name:tt $help:tt $registry:ident) => {
        $crate::metrics!(@add ::prometheus::Gauge::new($name, $help), $registry)
    };
    (@register histogram $name:tt $help:tt $registry:ident $buckets:expr) => {
        $crate::metrics!(
            @add ::prometheus::Histogram::with_opts(
                ::prometheus::HistogramOpts::new($name, $help).buckets($buckets.to_vec())
            ),
            $registry
        )
    };
    (@register counter_by $name:tt $help:tt $registry:ident $label:ident: $enum:ty) => {
        $crate::process::telemetry::metrics::CounterBy::<$enum>::register(
            $name, $help, stringify!($label), $registry
        )
    };

    (@add $metric:expr, $registry:ident) => {{
        let metric = $metric.expect("the names are checked by every test that registers them");
        $registry.register(Box::new(metric.clone())).expect("a metric is registered once");
        metric
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Reason {
        Idle,
        Slow,
    }

    impl Label for Reason {
        const ALL: &'static [Self] = &[Self::Idle, Self::Slow];

        fn label(&self) -> &'static str {
            match self {
                Self::Idle => "idle",
                Self::Slow => "slow",
            }
        }
    }

    const TENTHS: &[f64] = &[0.1, 1.0];

    metrics! {
        /// One metric of each kind.
        struct Metrics, prefix "roomcast_test_" {
            /// Connections opened
            /// since the start.
            connections_opened_total: counter,
            /// Bytes that wait to be written.
            waiting_bytes: gauge,
            /// Seconds that an append took.
            append_seconds: histogram(TENTHS),
            /// Connections closed, by reason.
            connections_closed_total: counter_by(reason: Reason),
        }
    }

    #[test]
    fn every_kind_is_exposed_with_its_help_and_its_value() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry);
        metrics.connections_opened_total.inc_by(3);
        metrics.waiting_bytes.set(-2);
        metrics.append_seconds.observe(0.5);
        metrics.connections_closed_total.inc(Reason::Slow);
        metrics.connections_closed_total.inc_by(Reason::Slow, 4);
        assert_eq!(metrics.connections_closed_total.get(Reason::Slow), 5);

        let text = exposed(&registry);
        for line in [
            "# HELP roomcast_test_connections_opened_total Connections opened since the start.",
            "# TYPE roomcast_test_connections_opened_total counter",
            "roomcast_test_connections_opened_total 3",
            "# HELP roomcast_test_waiting_bytes Bytes that wait to be written.",
            "roomcast_test_waiting_bytes -2",
            "roomcast_test_append_seconds_bucket{le=\"0.1\"} 0",
            "roomcast_test_append_seconds_bucket{le=\"1\"} 1",
            "roomcast_test_connections_closed_total{reason=\"slow\"} 5",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_variant_is_there_before_anything_was_counted() {
        let registry = Registry::new();
        let _metrics = Metrics::register(&registry);
        let text = exposed(&registry);
        for label in ["idle", "slow"] {
            let line = format!("roomcast_test_connections_closed_total{{reason=\"{label}\"}} 0");
            assert!(text.contains(&line), "{text}");
        }
    }

    fn exposed(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }
}
