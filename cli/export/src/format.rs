//! The formats of a scrape, and the header `Accept` that chooses one.

/// The formats, from the least to the most preferred where a client takes several alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    #[default]
    Text,
    OpenMetrics,
    Protobuf,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format of a media type with its parameters.
    fn of(media: &str, is: impl Fn(&str, &str) -> bool) -> Option<Self> {
        match media {
            "application/vnd.google.protobuf"
                if is("proto", "io.prometheus.client.metricfamily") && is("encoding", "delimited") =>
            {
                Some(Self::Protobuf)
            }
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "text/plain" | "text/*" | "*/*" => Some(Self::Text),
            _ => None,
        }
    }

    /// The format that the header `Accept` likes best; text if it likes none.
    pub(crate) fn chosen(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for media in accept.to_ascii_lowercase().split(',') {
            let mut parts = media.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let parameters = parts.filter_map(|part| part.split_once('='));
            let parameter = |name: &str| {
                let mut all =
                    parameters.clone().map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
                all.find(|(known, _)| *known == name).map(|(_, value)| value)
            };
            let q: f64 = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            let format = Self::of(name, |name, value| parameter(name) == Some(value));
            if let Some(format) = format.filter(|_| q > 0.0)
                && (q, format) > best
            {
                best = (q, format);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_format() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let prometheus =
            format!("{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1");
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("application/json", Format::Text),
            ("text/html, */*;q=0.8", Format::Text),
            ("application/openmetrics-text; version=1.0.0,text/plain;q=0.9", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Text),
            ("application/openmetrics-text;q=nan, ;=;,", Format::Text),
            (&prometheus, Format::Protobuf),
        ] {
            assert_eq!(Format::chosen(accept), format, "{accept}");
        }
    }
}
