//! What `/metrics` said at one moment.

use std::collections::BTreeMap;

/// Every sample of a metrics page by its name and labels, as they stand there:
/// `roomcast_connections_closed_total{reason="normal"}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Reads the text exposition format; lines that are none of it are skipped.
    pub fn parse(text: &str) -> Samples {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let end_of_name = match line.rfind('}') {
                Some(brace) => brace + 1,
                None => line.find(' ')?,
            };
            let (name, rest) = line.split_at(end_of_name);
            Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
        });
        Samples(samples.collect())
    }

    /// The sample with exactly this name and these labels.
    pub fn get(&self, name_and_labels: &str) -> Option<f64> {
        self.0.get(name_and_labels).copied()
    }

    /// The sum over all label values of a name; 0 where there is none.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |key: &str| key.split('{').next() == Some(name);
        self.0.iter().filter(|(key, _)| of_name(key)).map(|(_, value)| value).sum()
    }

    /// All samples, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(key, value)| (key.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels_and_summed_by_name() {
        let page = "# HELP a_total Things.\n# TYPE a_total counter\n\
                    a_total{kind=\"x y\"} 2\na_total{kind=\"}\"} 3\nb 1.5e3\n\
                    c_bucket{le=\"+Inf\"} 7\n";
        let samples = Samples::parse(page);
        assert_eq!(samples.get("a_total{kind=\"x y\"}"), Some(2.0));
        assert_eq!(samples.get("b"), Some(1500.0));
        assert_eq!(samples.get("c_bucket{le=\"+Inf\"}"), Some(7.0));
        assert!((samples.sum("a_total") - 5.0).abs() < f64::EPSILON);
        assert_eq!(samples.iter().count(), 4);
    }
}
