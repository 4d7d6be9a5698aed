//! The table that people read.

use std::fmt::{self, Display, Formatter};

use super::{Check, Report, Row, Series, Spread, Target};

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[{}] {}", self.scenario, self.title)?;
        self.series.iter().try_for_each(|series| write!(f, "{series}"))?;
        self.checks.iter().try_for_each(|check| write!(f, "{check}"))
    }
}

impl Display for Series {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(spread) = Spread::of(&self.values) {
            line(f, &self.who, &spread, self.unit)?;
            match self.memory_mb {
                Some(mb) => writeln!(f, "  RssAnon {mb:.0} MB")?,
                None => writeln!(f)?,
            }
        }
        match &self.failure {
            Some(failure) => writeln!(f, "  {:36} failed: {failure}", self.who),
            None => Ok(()),
        }
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = format!("-> {}", self.what);
        match &self.found {
            Some(spread) => line(f, &what, spread, self.unit)?,
            None => write!(f, "  {what:36} not measured")?,
        }
        if let Some(target) = &self.target {
            write!(f, "  {target}")?;
        }
        match self.reached {
            Some(true) => writeln!(f, ": reached"),
            Some(false) => writeln!(f, ": NOT REACHED"),
            None => writeln!(f),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast { bound, aim: None } => write!(f, "at least {bound}"),
            Self::AtLeast { bound, aim: Some(aim) } => write!(f, "at least {bound} (aim {aim})"),
            Self::AtMost { bound } => write!(f, "at most {bound}"),
        }
    }
}

fn line(f: &mut Formatter<'_>, what: &str, spread: &Spread, unit: &str) -> fmt::Result {
    let Spread { min, median, max } = spread;
    let digits = if *median < 20.0 { 2 } else { 0 };
    write!(f, "  {what:36} {median:9.digits$} {min:9.digits$} {max:9.digits$} {unit:6}")
}

impl Display for Report {
    /// The sum of it: rows are shown as they come.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let asked = || self.rows.iter().flat_map(|row| &row.checks).filter(|check| check.target.is_some());
        let reached = asked().filter(|check| check.reached == Some(true)).count();
        writeln!(f, "\n{} of {} targets reached", reached, asked().count())?;
        for failed in &self.failures {
            writeln!(f, "failed: {}: {}", failed.scenario, failed.why)?;
        }
        Ok(())
    }
}
