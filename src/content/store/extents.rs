/// The parts of a file that are written, in order and joined where they touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<(u64, u64)>);

impl Extents {
    /// Takes what `rows` gave, which may be anything.
    pub fn from_rows(rows: Vec<(u64, u64)>) -> Self {
        let mut extents = Self::default();
        rows.into_iter().for_each(|(start, end)| extents.insert(start, end));
        extents
    }

    /// Start and end of each part.
    pub fn rows(&self) -> Vec<(u64, u64)> {
        self.0.clone()
    }

    /// Adds a part.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|(_, other)| *other < start);
        let last = self.0.partition_point(|(other, _)| *other <= end);
        let start = self.0.get(first).filter(|_| first < last).map_or(start, |part| part.0.min(start));
        let end = if first < last { self.0[last - 1].1.max(end) } else { end };
        self.0.splice(first..last, [(start, end)]);
    }

    /// Takes a part out.
    pub fn remove(&mut self, start: u64, end: u64) {
        let parts = std::mem::take(&mut self.0);
        for (other, last) in parts {
            self.insert(other, last.min(start));
            self.insert(other.max(end), last);
        }
    }

    /// Whether every byte from `start` to `end` is written.
    pub fn contain(&self, start: u64, end: u64) -> bool {
        let next = self.0.partition_point(|(other, _)| *other <= start);
        start >= end || next > 0 && self.0[next - 1].1 >= end
    }

    /// How many bytes from `start` on are written without a gap.
    pub fn from(&self, start: u64) -> u64 {
        let next = self.0.partition_point(|(other, _)| *other <= start);
        let part = next.checked_sub(1).and_then(|index| self.0.get(index));
        part.map_or(0, |(_, end)| end.saturating_sub(start))
    }

    /// The end of the last part.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |(_, end)| *end)
    }

    /// How many bytes are written.
    pub fn length(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_extents_are_merged() {
        let mut extents = Extents::default();
        for (start, end) in [(10, 20), (30, 40), (5, 5), (20, 25), (0, 4), (24, 30)] {
            extents.insert(start, end);
        }
        assert_eq!(extents.rows(), [(0, 4), (10, 40)]);
        extents.insert(2, 11);
        assert_eq!(extents.rows(), [(0, 40)]);
    }

    proptest::proptest! {
        #[test]
        fn extents_contain_exactly_the_inserted_ranges(
            parts in proptest::collection::vec((0u64..64, 0u64..12, proptest::bool::weighted(0.7)), 0..20),
        ) {
            let mut extents = Extents::default();
            let mut bytes = [false; 80];
            for (start, length, is_inserted) in parts {
                match is_inserted {
                    true => extents.insert(start, start + length),
                    false => extents.remove(start, start + length),
                }
                bytes[start as usize..(start + length) as usize].fill(is_inserted);
            }
            assert_eq!(extents.length(), bytes.iter().filter(|byte| **byte).count() as u64);
            for start in 0..80 {
                for end in start..80 {
                    assert_eq!(extents.contain(start as u64, end as u64), bytes[start..end].iter().all(|byte| *byte));
                }
                assert_eq!(extents.from(start as u64), bytes[start..].iter().take_while(|byte| **byte).count() as u64);
            }
            assert!(extents.rows().windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
