//! The workloads: which operations, how many of each, on which records.

use std::fmt;
use std::str::FromStr;

use pugdb::Error;
use serde::{Serialize, Serializer};

/// A workload. Load and A to F are the core workloads of YCSB; W and M fill in what those do not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workload {
    /// Every record is inserted.
    Load,
    /// Update heavy: half reads, half updates.
    A,
    /// Read mostly: 95 of 100 are reads, the rest updates.
    B,
    /// Read only.
    C,
    /// Read latest: 95 of 100 are reads, the newest records most; the rest inserts.
    D,
    /// Short ranges: 95 of 100 are scans of 1 to 100 records; the rest inserts.
    E,
    /// Read, change, write: half reads, half a read and then an update of the same record.
    F,
    /// Random put: only updates, every record as likely.
    W,
    /// Miss: gets of keys that no record has.
    M,
}

/// How popular the records are in workloads A, B, C, E and F.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Some records are far more popular than others, and strewn over all of them.
    #[default]
    Zipfian,
    /// Every record is as likely.
    Uniform,
}

impl Distribution {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zipfian => "zipfian",
            Self::Uniform => "uniform",
        }
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
    Miss,
}

impl Workload {
    /// All of them, in the order in which a whole run makes sense.
    pub const ALL: [Self; 9] =
        [Self::Load, Self::A, Self::B, Self::C, Self::F, Self::D, Self::E, Self::W, Self::M];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
            Self::W => "W",
            Self::M => "M",
        }
    }

    /// True when the store has to scan in the order of the keys.
    pub fn scans(self) -> bool {
        self == Self::E
    }

    /// What it does when a number below 100 is drawn.
    pub(crate) fn verb(self, drawn: u64) -> Verb {
        let (percent, often, otherwise) = match self {
            Self::Load => (100, Verb::Insert, Verb::Insert),
            Self::A => (50, Verb::Read, Verb::Update),
            Self::B => (95, Verb::Read, Verb::Update),
            Self::C => (100, Verb::Read, Verb::Read),
            Self::D => (95, Verb::Read, Verb::Insert),
            Self::E => (95, Verb::Scan, Verb::Insert),
            Self::F => (50, Verb::Read, Verb::ReadModifyWrite),
            Self::W => (100, Verb::Update, Verb::Update),
            Self::M => (100, Verb::Miss, Verb::Miss),
        };
        if drawn < percent { often } else { otherwise }
    }

    /// True when it adds records.
    pub(crate) fn inserts(self) -> bool {
        matches!(self, Self::Load | Self::D | Self::E)
    }

    /// True when nearly all that it does is to write.
    pub(crate) fn fills(self) -> bool {
        matches!(self, Self::Load | Self::W)
    }
}

impl FromStr for Workload {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|workload| workload.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::invalid(
                "a workload is one of load, A, B, C, D, E, F of YCSB, W (random put) or M (gets of absent keys)",
            )
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixes_are_those_of_ycsb() {
        let share = |workload: Workload, verb| (0..100).filter(|&drawn| workload.verb(drawn) == verb).count();
        for (workload, verb, wanted) in [
            (Workload::A, Verb::Read, 50),
            (Workload::A, Verb::Update, 50),
            (Workload::B, Verb::Read, 95),
            (Workload::B, Verb::Update, 5),
            (Workload::C, Verb::Read, 100),
            (Workload::D, Verb::Read, 95),
            (Workload::D, Verb::Insert, 5),
            (Workload::E, Verb::Scan, 95),
            (Workload::E, Verb::Insert, 5),
            (Workload::F, Verb::Read, 50),
            (Workload::F, Verb::ReadModifyWrite, 50),
            (Workload::W, Verb::Update, 100),
            (Workload::M, Verb::Miss, 100),
        ] {
            assert_eq!(share(workload, verb), wanted, "{workload} {verb:?}");
        }
    }

    #[test]
    fn a_workload_is_known_by_its_name_in_either_case() {
        for workload in Workload::ALL {
            assert_eq!(workload.name().parse::<Workload>().unwrap(), workload);
            assert_eq!(workload.name().to_lowercase().parse::<Workload>().unwrap(), workload);
        }
        assert!("G".parse::<Workload>().unwrap_err().to_string().contains("load, A, B"));
    }
}
