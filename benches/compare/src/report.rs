//! Results of the measurements: rows of series, and their targets.

mod svg;
mod table;

use serde::Serialize;

/// One piece of work: who was measured doing it, and what was asked.
#[derive(Serialize)]
pub struct Row {
    scenario: &'static str,
    title: String,
    series: Vec<Series>,
    checks: Vec<Check>,
}

impl Row {
    pub fn new(scenario: &'static str, title: impl Into<String>, series: Vec<Series>) -> Self {
        Self { scenario, title: title.into(), series, checks: Vec::new() }
    }

    /// Holds the first of the series, ocipfs, against `other`: pair by pair.
    pub fn ratio(self, other: &str, target: Option<Target>) -> Self {
        let [ours, theirs] = [0, self.index(other)].map(|at| self.series.get(at));
        let pairs = ours.zip(theirs).map(|(a, b)| a.over(b)).unwrap_or_default();
        self.check(format!("ocipfs to {other}"), "x", &pairs, target)
    }

    /// Holds figures against a target.
    pub fn check(
        mut self,
        what: impl Into<String>,
        unit: &'static str,
        found: &[f64],
        target: Option<Target>,
    ) -> Self {
        let found = Spread::of(found);
        let reached = target.as_ref().and_then(|target| Some(target.is_reached(found.as_ref()?.median)));
        self.checks.push(Check { what: what.into(), unit, found, target, reached });
        self
    }

    /// Adds the figures of the same work, done once more.
    pub fn extend(&mut self, again: Self) {
        for (series, more) in self.series.iter_mut().zip(again.series) {
            series.values.extend(more.values);
            series.failure = series.failure.take().or(more.failure);
        }
    }

    /// Compares each series of ocipfs with that of an older build: above 1, this build is the better one.
    pub fn against(self, before: &Self, target: fn() -> Option<Target>) -> impl Iterator<Item = Self> {
        let Self { scenario, title, series, .. } = self;
        let pairs = series.into_iter().zip(&before.series).filter(|(now, _)| now.who.starts_with("ocipfs"));
        let pairs: Vec<_> = pairs.map(|(now, before)| (now, before.renamed("before"))).collect();
        pairs.into_iter().map(move |(now, before)| {
            let [better, worse] = if now.unit == "MB/s" { [&now, &before] } else { [&before, &now] };
            let ratios = better.over(worse);
            let row = Self::new(scenario, title.clone(), vec![now, before]);
            row.check("this build to the one before", "x", &ratios, target())
        })
    }

    /// Shows another series too.
    pub fn and(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// The figures of one series.
    pub fn values(&self, who: &str) -> &[f64] {
        self.series.get(self.index(who)).map_or(&[], |series| &series.values)
    }

    /// The most memory of one series.
    pub fn memory(&self, who: &str) -> Option<f64> {
        self.series.get(self.index(who))?.memory_mb
    }

    fn index(&self, who: &str) -> usize {
        self.series.iter().position(|series| series.who == who).unwrap_or(usize::MAX)
    }
}

/// The figures of one peer, one for each round.
#[derive(Serialize)]
pub struct Series {
    who: String,
    unit: &'static str,
    values: Vec<f64>,
    /// The most anonymous memory in MB, where that was looked at.
    memory_mb: Option<f64>,
    /// Why figures are missing.
    failure: Option<String>,
}

impl Series {
    pub fn new(who: impl Into<String>, unit: &'static str) -> Self {
        Self { who: who.into(), unit, values: Vec::new(), memory_mb: None, failure: None }
    }

    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    pub fn saw_memory(&mut self, mb: f64) {
        self.memory_mb = Some(self.memory_mb.unwrap_or(0.0).max(mb));
    }

    pub fn fail(&mut self, failure: String) {
        self.failure = Some(failure);
    }

    fn renamed(&self, who: &str) -> Self {
        let Self { unit, memory_mb, .. } = *self;
        Self { who: who.into(), unit, values: self.values.clone(), memory_mb, failure: self.failure.clone() }
    }

    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn over(&self, other: &Self) -> Vec<f64> {
        self.values.iter().zip(&other.values).map(|(a, b)| a / b).collect()
    }
}

/// Required bound; `aim` is the goal beyond it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast { bound: f64, aim: Option<f64> },
    AtMost { bound: f64 },
}

impl Target {
    pub fn at_least(bound: f64) -> Option<Self> {
        Some(Self::AtLeast { bound, aim: None })
    }

    pub fn aiming_at(bound: f64, aim: f64) -> Option<Self> {
        Some(Self::AtLeast { bound, aim: Some(aim) })
    }

    pub fn at_most(bound: f64) -> Option<Self> {
        Some(Self::AtMost { bound })
    }

    fn is_reached(&self, found: f64) -> bool {
        match self {
            Self::AtLeast { bound, .. } => found >= *bound,
            Self::AtMost { bound } => found <= *bound,
        }
    }
}

/// A figure and what is asked of it; without `found` it could not be measured.
#[derive(Serialize)]
struct Check {
    what: String,
    unit: &'static str,
    found: Option<Spread>,
    target: Option<Target>,
    reached: Option<bool>,
}

/// The least, the middle and the most of some figures.
#[derive(Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Some(Self { min, median, max })
    }
}

/// A run: on what machine, what came of it and what did not.
#[derive(Serialize)]
pub struct Report {
    processor: String,
    cores: usize,
    pub rows: Vec<Row>,
    pub failures: Vec<Failed>,
}

/// A scenario that came to no end.
#[derive(Serialize)]
pub struct Failed {
    pub scenario: &'static str,
    pub why: String,
}

impl Report {
    pub fn new() -> Self {
        let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = about.lines().find(|line| line.starts_with("model name"));
        let processor = model.and_then(|line| line.split_once(": ")).map_or("", |(_, name)| name).into();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Self { processor, cores, rows: Vec::new(), failures: Vec::new() }
    }

    pub fn svg(&self) -> String {
        svg::of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(who: &str, values: &[f64]) -> Series {
        Series { values: values.to_vec(), ..Series::new(who, "MB/s") }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let Spread { min, median, max } = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((min, median, max), (1.0, 2.5, 4.0));
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let pair = vec![series("ocipfs", &[10.0, 1.0, 30.0]), series("other", &[5.0, 1.0, 10.0])];
        let row = Row::new("fetch", "", pair).ratio("other", Target::at_least(2.0));
        let check = &row.checks[0];
        assert_eq!(check.found.as_ref().unwrap().median, 2.0);
        assert_eq!(check.reached, Some(true));
    }

    #[test]
    fn builds_are_compared_in_the_direction_of_their_unit() {
        let row = |unit, values: &[f64]| {
            let other = Series::new("nginx", "MB/s");
            Row::new("fetch", "", vec![Series { unit, ..series("ocipfs", values) }, other])
        };
        let ratio = |unit, now: &[f64], before: &[f64]| {
            let rows: Vec<_> = row(unit, now).against(&row(unit, before), || Target::at_least(0.9)).collect();
            assert_eq!(rows.len(), 1);
            rows[0].checks[0].found.as_ref().unwrap().median
        };
        assert_eq!(ratio("MB/s", &[10.0], &[5.0]), 2.0);
        assert_eq!(ratio("ms", &[10.0], &[5.0]), 0.5);
    }

    #[test]
    fn the_figures_of_several_rounds_are_of_one_row() {
        let mut row = Row::new("fetch", "", vec![series("ocipfs", &[1.0])]);
        row.extend(Row::new("fetch", "", vec![series("ocipfs", &[2.0, 3.0])]));
        assert_eq!(row.values("ocipfs"), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_missed() {
        let row = Row::new("fetch", "", vec![series("ocipfs", &[1.0])]).ratio("other", Target::at_least(2.0));
        assert_eq!(row.checks[0].reached, None);
        assert!(row.checks[0].found.is_none());
    }
}
