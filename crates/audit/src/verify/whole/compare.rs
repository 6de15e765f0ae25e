//! What was done to records whose right hashes are known. Invariant: names the first place where they differ.

use super::WIDTH;
use crate::verify::finding::{Finding, Kind};
use crate::verify::merkle::Hash;

/// The numbers that the records of a bundle say they have.
pub(super) struct Numbers<'a> {
    begins: u64,
    numbers: &'a [Option<u64>],
}

impl<'a> Numbers<'a> {
    pub(super) fn new(begins: u64, numbers: &'a [Option<u64>]) -> Self {
        Self { begins, numbers }
    }

    fn at(&self, place: usize) -> Option<u64> {
        self.numbers.get(place).copied().flatten()
    }

    /// When they are not their places.
    pub(super) fn finding(&self) -> Option<Finding> {
        let differs = |(place, number): (u64, &Option<u64>)| number.is_some_and(|number| number != place);
        let place = (self.begins..).zip(self.numbers).position(differs)?;
        let (sequence, number) = (self.begins + place as u64, self.at(place)?);
        let stands_later = self.numbers[place..].contains(&Some(sequence));
        Some(match number > sequence && !stands_later {
            true => deletion(sequence, number - 1),
            false => reordering(sequence, Some(number)),
        })
    }
}

pub(super) fn compare(begins: u64, found: &[Hash], right: &[Hash], numbers: &Numbers<'_>) -> Finding {
    let place = found.iter().zip(right).position(|(found, right)| found != right);
    let place = place.unwrap_or_else(|| found.len().min(right.len()));
    let sequence = begins + place as u64;
    let (is, was) = (found.get(place), right.get(place));
    let sorted = |hashes: &[Hash]| {
        let mut hashes = hashes.to_vec();
        hashes.sort_unstable();
        hashes
    };
    let number = numbers.at(place);
    if found.len() == right.len() && sorted(found) == sorted(right) {
        return reordering(sequence, number);
    }
    if is.is_none() || (is == right.get(place + 1) && is.is_some()) || number == Some(sequence + 1) {
        return deletion(sequence, sequence);
    }
    if was.is_none() || (was == found.get(place + 1)) || (number.is_some_and(|number| number + 1 == sequence))
    {
        let what = format!(
            "what stands at {sequence} was put in: the record that was signed there comes later, or never was"
        );
        return Finding::new(Kind::Insertion, Some(sequence), what);
    }
    if is.is_some_and(|is| right.contains(is))
        || number.is_some_and(|number| number != sequence && number / WIDTH != sequence / WIDTH)
    {
        return reordering(sequence, number);
    }
    let what = format!("record {sequence} is not what was signed: it was edited");
    Finding::new(Kind::Edit, Some(sequence), what)
}

fn deletion(first: u64, last: u64) -> Finding {
    let what = match first == last {
        true => format!("record {first} is gone: it was deleted, and those behind it moved up"),
        false => {
            format!("records {first} to {last} are gone: they were deleted, and those behind them moved up")
        }
    };
    Finding::new(Kind::Deletion, Some(first), what)
}

fn reordering(sequence: u64, number: Option<u64>) -> Finding {
    let what = match number.filter(|number| *number != sequence) {
        Some(number) => {
            format!("record {number} stands where record {sequence} belongs: records have changed places")
        }
        None => format!("another record stands where record {sequence} belongs: records have changed places"),
    };
    Finding::new(Kind::Reordering, Some(sequence), what)
}
