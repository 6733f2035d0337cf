//! What a metric family is: its name, type, help and unit.

use crate::SharedStr;

/// The type of a metric family, as in OpenMetrics 1.0.
///
/// Text format 0.0.4 has no `info` and no `stateset`: they are written as gauges there, and `unknown` as `untyped`. Of a
/// `gaugehistogram` it gets the buckets as a histogram, and `_gcount` and `_gsum` as gauges of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cumulative value that only grows, or starts again at zero.
    Counter,
    /// A value that can go up and down.
    Gauge,
    /// Cumulative buckets with `_sum` and `_count`.
    Histogram,
    /// Cumulative buckets with `_gsum` and `_gcount` of what there is now: they may fall.
    GaugeHistogram,
    /// Quantiles with `_sum` and `_count`.
    Summary,
    /// A constant 1 whose labels carry the information.
    Info,
    /// One series a state, 1 for the current one.
    StateSet,
    /// Nothing is known of the type.
    Unknown,
}

impl Kind {
    /// The word after `# TYPE name` in text format 0.0.4.
    pub const fn text(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Info | Kind::StateSet => "gauge",
            Kind::Histogram | Kind::GaugeHistogram => "histogram",
            Kind::Summary => "summary",
            Kind::Unknown => "untyped",
        }
    }
}

/// Description of a metric family.
///
/// `name` is exactly what text format 0.0.4 prints: a counter carries its `_total`, an info its `_info`.
/// OpenMetrics derives its own spelling from that.
#[derive(Clone, Debug, PartialEq)]
pub struct Desc {
    /// Name as printed.
    pub name: SharedStr,
    /// Help text, one sentence.
    pub help: SharedStr,
    /// Type.
    pub kind: Kind,
    /// Unit, printed by OpenMetrics only, and only when the name ends in it.
    pub unit: Option<SharedStr>,
}

macro_rules! constructors {
    ($($function:ident => $kind:ident),*) => {$(
        #[doc = concat!("A family of kind [`Kind::", stringify!($kind), "`].")]
        pub const fn $function(name: &'static str, help: &'static str) -> Desc {
            Desc { name: SharedStr::Static(name), help: SharedStr::Static(help), kind: Kind::$kind, unit: None }
        }
    )*};
}

impl Desc {
    constructors!(counter => Counter, gauge => Gauge, histogram => Histogram, summary => Summary,
                  info => Info, stateset => StateSet, unknown => Unknown);

    /// A family whose name is only known at run time.
    pub fn new(kind: Kind, name: impl Into<SharedStr>, help: impl Into<SharedStr>) -> Desc {
        Desc { name: name.into(), help: help.into(), kind, unit: None }
    }

    /// The same family with a unit.
    #[must_use]
    pub fn with_unit(mut self, unit: impl Into<SharedStr>) -> Desc {
        self.unit = Some(unit.into());
        self
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub fn is_metric_name(name: &str) -> bool {
    is_name(name, LETTER | COLON)
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
pub fn is_label_name(name: &str) -> bool {
    is_name(name, LETTER)
}

const LETTER: u8 = 1;
const COLON: u8 = 2;
const DIGIT: u8 = 4;

/// What a byte is. Every name is looked at on every scrape, so this is a table.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b':' => COLON,
            b'0'..=b'9' => DIGIT,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

fn is_name(name: &str, first: u8) -> bool {
    let is = |byte: u8, classes: u8| CLASSES[usize::from(byte)] & classes != 0;
    name.bytes().next().is_some_and(|byte| is(byte, first))
        && name.bytes().all(|byte| is(byte, first | DIGIT))
}
