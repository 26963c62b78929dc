//! The one table that the program prints: figure, target, median and range, and the conditions below.

use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// There is none: the figure explains another one.
    None,
}

struct Line {
    what: String,
    target: Target,
    runs: Vec<f64>,
    decimals: usize,
    remark: String,
}

/// Figures in the order in which they were measured.
pub struct Table {
    conditions: Vec<String>,
    lines: Vec<Line>,
}

impl Table {
    /// An empty table with what is known of the machine.
    pub fn new(machine: String) -> Self {
        Self { conditions: vec![machine], lines: Vec::new() }
    }

    /// Adds a figure; it is also shown at once, because a full run takes its time.
    pub fn add(&mut self, what: impl Into<String>, target: Target, runs: Vec<f64>, remark: impl Into<String>) {
        assert!(!runs.is_empty(), "a figure needs a run");
        // Rates in whole numbers, times and sizes with what matters of them.
        let decimals = match median(&runs) {
            value if value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            _ => 2,
        };
        let line = Line { what: what.into(), target, runs, decimals, remark: remark.into() };
        eprintln!("{line}");
        self.lines.push(line);
    }

    /// Says once how the server was set up.
    pub fn condition(&mut self, text: String) {
        if !self.conditions.contains(&text) {
            self.conditions.push(text);
        }
    }
}

/// The middle value; of an even number of values the upper one.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which this part of the values lies.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// 12345.6 as 12,346.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits = whole.len();
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (digits - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

impl Target {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(limit) => Some(value >= limit),
            Self::AtMost(limit) => Some(value <= limit),
            Self::None => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |value: f64| number(value, if value.fract() == 0.0 { 0 } else { 1 });
        let text = match self {
            Self::AtLeast(limit) => format!(">= {}", short(*limit)),
            Self::AtMost(limit) => format!("<= {}", short(*limit)),
            Self::None => String::new(),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = median(&self.runs);
        let show = |value: f64| number(value, self.decimals);
        let range = if self.runs.len() > 1 {
            format!("({}-{})", show(percentile(&self.runs, 0.0)), show(percentile(&self.runs, 1.0)))
        } else {
            String::new()
        };
        let verdict = match self.target.is_met(value) {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        write!(
            f,
            "{:<62} {:>11} {:>9} {:<17} {:<6} {}",
            self.what,
            self.target,
            show(value),
            range,
            verdict,
            self.remark
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<62} {:>11} {:>9} {:<17}", "figure", "target", "median", "(min-max)")?;
        for line in &self.lines {
            writeln!(f, "{}", line.to_string().trim_end())?;
        }
        writeln!(f, "\nConditions:")?;
        for condition in &self.conditions {
            writeln!(f, "  {condition}")?;
        }
        Ok(())
    }
}
