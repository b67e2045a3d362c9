//! The operations of one client, laid down before the clock starts: drawing them costs the run nothing.

use crate::limits;
use crate::random::Random;
use crate::workload::{Distribution, Verb, Workload};
use crate::zipfian::{ScrambledZipfian, Zipfian};

/// One operation. Records are numbers; [`key`](crate::key()) gives their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Get a record.
    Read(u64),
    /// Get the record that is this many before the newest.
    ReadLatest(u64),
    /// Put a new version of a record.
    Update(u64),
    /// Put the next record.
    Insert,
    /// Read so many entries, from a record on.
    Scan(u64, u64),
    /// Get a record, then put a new version of it.
    ReadModifyWrite(u64),
    /// Get the [absent key](crate::absent_key) of this number.
    Miss(u64),
}

/// A list of operations, a word each.
#[derive(Debug, Default)]
pub struct Plan(Vec<u64>);

const RECORD_BITS: u32 = 48;
const LENGTH_BITS: u32 = 8;
const RECORD_MASK: u64 = (1 << RECORD_BITS) - 1;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;
const _: () = assert!(limits::RECORDS_MAX + limits::OPERATIONS_MAX < 1 << RECORD_BITS);
const _: () = assert!(limits::SCAN_LENGTH_MAX <= LENGTH_MASK);

impl Operation {
    fn pack(self) -> u64 {
        let (verb, length, record) = match self {
            Self::Read(record) => (0, 0, record),
            Self::ReadLatest(distance) => (1, 0, distance),
            Self::Update(record) => (2, 0, record),
            Self::Insert => (3, 0, 0),
            Self::Scan(record, length) => (4, length, record),
            Self::ReadModifyWrite(record) => (5, 0, record),
            Self::Miss(number) => (6, 0, number),
        };
        (verb << LENGTH_BITS | length) << RECORD_BITS | record
    }

    fn unpack(word: u64) -> Self {
        let (length, record) = (word >> RECORD_BITS & LENGTH_MASK, word & RECORD_MASK);
        match word >> (RECORD_BITS + LENGTH_BITS) {
            0 => Self::Read(record),
            1 => Self::ReadLatest(record),
            2 => Self::Update(record),
            3 => Self::Insert,
            4 => Self::Scan(record, length),
            5 => Self::ReadModifyWrite(record),
            _ => Self::Miss(record),
        }
    }
}

impl Plan {
    /// The operations in their order.
    pub fn operations(&self) -> impl Iterator<Item = Operation> + '_ {
        self.0.iter().map(|&word| Operation::unpack(word))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Draws the operations of one client, for a store that holds `records` when it starts. Workload load has no plan: its
/// records come one after the other.
///
/// ```
/// use pugdb_ycsb::{Distribution, Operation, Random, Workload, plan};
///
/// let draw = |seed| plan(Workload::C, Distribution::Zipfian, 1_000, 50, Random::new(seed));
/// assert!(draw(1).operations().all(|operation| matches!(operation, Operation::Read(record) if record < 1_000)));
/// assert!(draw(1).operations().eq(draw(1).operations()));
/// assert!(!draw(1).operations().eq(draw(2).operations()));
/// ```
pub fn plan(
    workload: Workload,
    distribution: Distribution,
    records: u64,
    operations: u64,
    mut random: Random,
) -> Plan {
    let scrambled = ScrambledZipfian::new(if workload.inserts() {
        // As YCSB does: room for twice the inserts that are expected, so that the popular records stay the same.
        records + operations / 10
    } else {
        records
    });
    let mut latest = (workload == Workload::D).then(|| Zipfian::new(records));
    let mut known = records;
    let mut words = Vec::with_capacity(usize::try_from(operations).unwrap_or(0));
    for _ in 0..operations {
        let verb = workload.verb(random.below(100));
        let mut draw = || match distribution {
            _ if workload == Workload::W => random.below(known),
            Distribution::Uniform => random.below(known),
            // What is beyond the last record is drawn anew.
            Distribution::Zipfian => loop {
                let record = scrambled.next(&mut random);
                if record < known {
                    break record;
                }
            },
        };
        let operation = match (verb, &mut latest) {
            (Verb::Read, Some(zipfian)) => Operation::ReadLatest(zipfian.next(&mut random)),
            (Verb::Read, None) => Operation::Read(draw()),
            (Verb::Update, _) => Operation::Update(draw()),
            (Verb::ReadModifyWrite, _) => Operation::ReadModifyWrite(draw()),
            (Verb::Scan, _) => Operation::Scan(draw(), 1 + random.below(limits::SCAN_LENGTH_MAX)),
            (Verb::Miss, _) => Operation::Miss(random.below(1 << RECORD_BITS)),
            (Verb::Insert, latest) => {
                known += 1;
                if let Some(zipfian) = latest {
                    zipfian.grow(known);
                }
                Operation::Insert
            }
        };
        words.push(operation.pack());
    }
    Plan(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(workload: Workload, distribution: Distribution) -> Vec<Operation> {
        plan(workload, distribution, 1_000, 20_000, Random::new(9)).operations().collect()
    }

    #[test]
    fn an_operation_comes_back_from_its_word() {
        for operation in [
            Operation::Read(0),
            Operation::ReadLatest(limits::RECORDS_MAX),
            Operation::Update(RECORD_MASK),
            Operation::Insert,
            Operation::Scan(12, limits::SCAN_LENGTH_MAX),
            Operation::ReadModifyWrite(7),
            Operation::Miss(RECORD_MASK),
        ] {
            assert_eq!(Operation::unpack(operation.pack()), operation);
        }
    }

    #[test]
    fn every_workload_is_the_same_for_the_same_seed() {
        for workload in Workload::ALL {
            assert_eq!(draw(workload, Distribution::Zipfian), draw(workload, Distribution::Zipfian));
        }
    }

    #[test]
    fn zipfian_has_a_few_popular_records_and_uniform_has_none() {
        let most = |distribution| {
            let mut counts = vec![0_u32; 1_000];
            for operation in draw(Workload::C, distribution) {
                let Operation::Read(record) = operation else { panic!("C only reads") };
                counts[usize::try_from(record).unwrap()] += 1;
            }
            counts.into_iter().max().unwrap()
        };
        // Of 20,000 draws: 3.8 of 100 for the most popular, and about 20 for each when all are as likely.
        assert!((680..840).contains(&most(Distribution::Zipfian)), "{}", most(Distribution::Zipfian));
        assert!(most(Distribution::Uniform) < 50, "{}", most(Distribution::Uniform));
    }

    #[test]
    fn d_reads_the_newest_records_most() {
        let distances: Vec<u64> = draw(Workload::D, Distribution::Zipfian)
            .into_iter()
            .filter_map(|operation| match operation {
                Operation::ReadLatest(distance) => Some(distance),
                _ => None,
            })
            .collect();
        let newest = distances.iter().filter(|&&distance| distance == 0).count();
        let newest_ten = distances.iter().filter(|&&distance| distance < 10).count();
        assert!((18_800..19_200).contains(&distances.len()), "{}", distances.len());
        assert!(newest * 100 > distances.len() * 11, "{newest} of {}", distances.len());
        assert!(newest_ten * 100 > distances.len() * 35, "{newest_ten} of {}", distances.len());
    }

    #[test]
    fn e_scans_one_to_a_hundred_records_each_length_as_likely() {
        let mut lengths = vec![0_u32; 101];
        for operation in draw(Workload::E, Distribution::Zipfian) {
            match operation {
                Operation::Scan(_, length) => lengths[usize::try_from(length).unwrap()] += 1,
                Operation::Insert => {}
                other => panic!("{other:?} in E"),
            }
        }
        assert_eq!(lengths[0], 0);
        assert!(lengths[1..].iter().all(|count| (120..270).contains(count)), "{lengths:?}");
    }

    #[test]
    fn records_are_those_that_exist_by_then() {
        for workload in Workload::ALL {
            let mut known = 1_000;
            for operation in draw(workload, Distribution::Zipfian) {
                match operation {
                    Operation::Insert => known += 1,
                    Operation::Read(record)
                    | Operation::Update(record)
                    | Operation::ReadModifyWrite(record)
                    | Operation::ReadLatest(record)
                    | Operation::Scan(record, _) => assert!(record < known, "{workload}: {operation:?}"),
                    Operation::Miss(_) => assert_eq!(workload, Workload::M),
                }
            }
        }
    }
}
