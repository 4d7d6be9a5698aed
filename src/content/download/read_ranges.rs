//! Where in a file its readers are.

use std::ops::Range;

/// Ranges of a file that readers need, and those that they wait for now.
#[derive(Clone, Debug, Default)]
pub struct ReadRanges {
    /// Needed ranges: disjoint, in order.
    ranges: Vec<Range<u64>>,
    /// Ranges that readers wait for: disjoint, in order, within the needed ranges.
    urgent: Vec<Range<u64>>,
}

impl ReadRanges {
    pub fn new(ranges: Vec<Range<u64>>, urgent: Vec<Range<u64>>) -> Self {
        Self { ranges: joined(ranges), urgent: joined(urgent) }
    }

    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    pub fn urgent(&self) -> &[Range<u64>] {
        &self.urgent
    }

    /// Returns only the ranges that readers wait for.
    pub fn only_urgent(self) -> Self {
        Self { ranges: self.urgent.clone(), urgent: self.urgent }
    }

    /// Whether all of a range that is needed lies within a gap.
    pub fn has_within(&self, gap: &Range<u64>) -> bool {
        let next = self.ranges.partition_point(|range| range.start < gap.start);
        self.ranges.get(next).is_some_and(|range| range.end <= gap.end)
    }
}

/// Whether a range overlaps any of those, which are disjoint and in order.
pub fn overlaps(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
    let next = ranges.partition_point(|other| other.end <= range.start);
    ranges.get(next).is_some_and(|other| other.start < range.end)
}

/// The ranges in order; those that overlap or touch are one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut all: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match all.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_and_adjacent_read_ranges_are_merged() {
        let interest = ReadRanges::new(vec![5..9, 0..3, 3..4, 6..7, 20..20, 8..12], vec![]);
        assert_eq!(interest.ranges(), [0..4, 5..12]);
        for (gap, expected) in [(5..12, true), (4..13, true), (5..11, false), (6..12, false), (0..4, true)] {
            assert_eq!(interest.has_within(&gap), expected, "{gap:?}");
        }
        for (range, expected) in [(0..1, true), (4..5, false), (3..5, true), (11..40, true), (12..40, false)]
        {
            assert_eq!(overlaps(interest.ranges(), &range), expected, "{range:?}");
        }
    }
}
