//! How counts become what Prometheus reads: series under labels, histograms, and the older of the two text forms.

use crate::meters::{Counts, Tally};
use prometheus_client::{
    encoding::{EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{fmt, hash::Hash, time::Duration};

/// The labels of one series.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Counters under labels.
#[derive(Debug, Default)]
pub(super) struct Counters(pub(super) Vec<(Labels, u64)>);

impl EncodeMetric for Counters {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, count) in &self.0 {
            encoder.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Gauges under labels.
#[derive(Debug, Default)]
pub(super) struct Gauges<V>(pub(super) Vec<(Labels, V)>);

impl<V: EncodeGaugeValue> EncodeMetric for Gauges<V> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, value) in &self.0 {
            encoder.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// What the numbers of a tally are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// Times, shown in seconds.
    Microseconds,
    /// Whole things.
    Pieces,
}

impl Unit {
    /// A number as it is shown.
    fn shown(self, number: u64) -> f64 {
        // A time in whole seconds is just as good as a count, and converts by the standard library's own rounding.
        match self {
            Self::Microseconds => Duration::from_micros(number),
            Self::Pieces => Duration::from_secs(number),
        }
        .as_secs_f64()
    }
}

/// Histograms under labels.
#[derive(Debug)]
pub(super) struct Histograms {
    unit: Unit,
    bounds: &'static [u64],
    series: Vec<(Labels, Counts)>,
}

impl Histograms {
    /// What a tally has counted, under the labels that `labels` makes of each kind. What gets the same labels is added
    /// up; kinds that do come one after the other.
    pub(super) fn of<K: Clone + Eq + Hash + Ord>(
        tally: &Tally<K>,
        unit: Unit,
        labels: impl Fn(&K) -> Labels,
    ) -> Self {
        let mut series: Vec<(Labels, Counts)> = Vec::new();
        for (kind, counts) in tally.read() {
            let labels = labels(&kind);
            match series.last_mut().filter(|(last, _)| *last == labels) {
                Some((_, sum)) => sum.add(&counts),
                None => series.push((labels, counts)),
            }
        }
        Self { unit, bounds: tally.bounds(), series }
    }
}

impl EncodeMetric for Histograms {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, counts) in &self.series {
            let bounds = self.bounds.iter().map(|bound| self.unit.shown(*bound));
            let bounds = bounds.chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.within.iter().copied()).collect();
            let sum = self.unit.shown(counts.sum);
            let encode = |mut encoder: MetricEncoder<'_>| {
                encoder.encode_histogram::<NoLabelSet>(sum, counts.count, &buckets, None)
            };
            match labels.is_empty() {
                true => {
                    encoder.encode_histogram::<NoLabelSet>(sum, counts.count, &buckets, None)?
                }
                false => encode(encoder.encode_family(labels)?)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The older text form (version 0.0.4), which names a counter by its sample's whole name and knows neither units nor
/// an end.
pub(super) fn as_text(open_metrics: &str) -> String {
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let about = line.strip_prefix("# ").and_then(|line| line.split_once(' '));
        match about {
            None if line == "# EOF" => continue,
            Some(("UNIT", _)) => continue,
            Some((what @ ("HELP" | "TYPE"), rest)) => match rest.split_once(' ') {
                Some((name, rest)) if counters.contains(&name) => {
                    text.push_str(&format!("# {what} {name}_total {rest}"));
                }
                _ => text.push_str(line),
            },
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    #[test]
    fn counts_are_shown_in_base_units_and_in_both_forms() {
        static BOUNDS: &[u64] = &[500, 2_000_000];
        let tally: Tally<(&'static str, u16)> = Tally::new(BOUNDS);
        for (kind, took) in [(("a", 200), 500), (("a", 503), 501), (("b", 200), 2_000_001)] {
            tally.note(kind, took);
        }
        let mut registry = Registry::with_prefix("own");
        let times =
            Histograms::of(&tally, Unit::Microseconds, |(name, _)| vec![("name", (*name).into())]);
        registry.register("duration_seconds", "How long", times);
        let counters = Counters(vec![(vec![("status", "200".into())], 7)]);
        registry.register("requests", "How many", counters);
        let mut open = String::new();
        encode(&mut open, &registry).unwrap();
        for line in [
            "own_duration_seconds_bucket{le=\"0.0005\",name=\"a\"} 1",
            "own_duration_seconds_bucket{le=\"2.0\",name=\"a\"} 2",
            "own_duration_seconds_bucket{le=\"+Inf\",name=\"b\"} 1",
            "own_duration_seconds_count{name=\"a\"} 2",
            "own_duration_seconds_sum{name=\"a\"} 0.001001",
            "# TYPE own_requests counter",
            "own_requests_total{status=\"200\"} 7",
            "# EOF",
        ] {
            assert!(open.lines().any(|each| each == line), "{line}:\n{open}");
        }
        let text = as_text(&open);
        assert!(text.contains("# TYPE own_requests_total counter\n"), "{text}");
        assert!(text.contains("# HELP own_requests_total How many.\n"), "{text}");
        assert!(text.contains("# TYPE own_duration_seconds histogram\n"), "{text}");
        assert!(!text.contains("EOF"), "{text}");
        assert_eq!(text.lines().count(), open.lines().count() - 1);
    }
}
