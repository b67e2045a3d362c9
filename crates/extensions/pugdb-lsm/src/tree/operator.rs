//! A keyspace's merge operator: found by the name that its options keep, called without a lock, its panics survived.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::RwLock;
use pugdb_core::seam::MergeOperator;
use pugdb_core::{Error, Result, Value};

use crate::options::OperatorName;

/// The merge operators that whoever opens a database gives to its keyspaces, by the names of those.
#[derive(Clone, Default)]
pub struct Operators(BTreeMap<String, (Result<OperatorName>, Arc<dyn MergeOperator>)>);

impl Operators {
    /// The keyspace of this name has this operator.
    pub fn insert(&mut self, keyspace: &str, operator: Arc<dyn MergeOperator>) {
        self.0.insert(keyspace.to_owned(), (OperatorName::new(operator.name()), operator));
    }

    /// Refuses operators without a name.
    ///
    /// # Errors
    /// `Invalid` when a name is out of its limits.
    pub fn check(&self) -> Result<()> {
        self.0.values().try_for_each(|(name, _)| name.clone().map(drop))
    }

    /// What the operator is called that was given to a keyspace.
    pub fn given_to(&self, keyspace: &str) -> Option<OperatorName> {
        self.0.get(keyspace).and_then(|(name, _)| name.clone().ok())
    }

    /// Refuses an operator that is not the one whose operands a keyspace may hold.
    ///
    /// # Errors
    /// `Invalid`, naming both.
    pub fn check_for(&self, keyspace: &str, holds: Option<OperatorName>) -> Result<()> {
        match (self.given_to(keyspace), holds) {
            (Some(given), Some(holds)) if given != holds => Err(Error::invalid(format!(
                "the keyspace {keyspace:?} has the merge operator {holds:?} and was given {given:?}; open it with its own, or copy \
                 it into another keyspace"
            ))),
            _ => Ok(()),
        }
    }

    /// The operator of this name, whichever keyspace it was given to: names of keyspaces are exchanged.
    fn named(&self, name: OperatorName) -> Option<Arc<dyn MergeOperator>> {
        let is_it =
            |(other, _): &&(Result<OperatorName>, _)| other.as_ref().is_ok_and(|other| *other == name);
        self.0.values().find(is_it).map(|(_, operator)| Arc::clone(operator))
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operators({})", self.0.len())
    }
}

/// What a tree and all its versions know of its operator.
#[derive(Default)]
pub(crate) struct Merging(RwLock<Known>);

#[derive(Clone, Default)]
enum Known {
    /// There are no operands.
    #[default]
    None,
    /// There may be operands, and nobody has said what they mean.
    Name(OperatorName),
    Operator(Operator),
}

impl Merging {
    /// There may be operands of this name.
    pub(crate) fn learn(&self, name: Option<OperatorName>, operators: &Operators) {
        let known = name.map_or(Known::None, |name| {
            operators
                .named(name)
                .map_or(Known::Name(name), |operator| Known::Operator(Operator { name, operator }))
        });
        *self.0.write() = known;
    }

    /// What folds the tree's operands.
    ///
    /// # Errors
    /// `Invalid` when the database was opened without it.
    pub(crate) fn operator(&self) -> Result<Operator> {
        match &*self.0.read() {
            Known::Operator(operator) => Ok(operator.clone()),
            Known::Name(name) => Err(Error::invalid(format!(
                "the database was opened without the merge operator {name:?}, which this keyspace needs; give it to the builder"
            ))),
            Known::None => Err(Error::corrupt(
                "a keyspace without a merge operator holds an operand; run `pugdb verify`",
            )),
        }
    }
}

/// An operator at work.
#[derive(Clone)]
pub(crate) struct Operator {
    name: OperatorName,
    operator: Arc<dyn MergeOperator>,
}

impl Operator {
    /// The value that comes of operands, the oldest first.
    ///
    /// # Errors
    /// `Invalid` when the operator refuses them or the value is too long; `Internal` when the operator panics.
    pub(crate) fn merge(&self, key: &[u8], existing: Option<&[u8]>, operands: &[&[u8]]) -> Result<Value> {
        // Of an operator that panics half-way nothing is used, whatever it has changed of its own.
        let merged = catch_unwind(AssertUnwindSafe(|| self.operator.merge(key, existing, operands)));
        let merged = merged.map_err(|_| self.panicked())?;
        let name = self.name;
        let refused = || {
            Error::invalid(format!(
                "the merge operator {name:?} refuses what was merged into this key; put a value or delete the key"
            ))
        };
        Value::new(merged.ok_or_else(refused)?)
    }

    /// One operand that does what both do; `None` when there is none, or it would be too long: both stay.
    ///
    /// # Errors
    /// `Internal` when the operator panics.
    pub(crate) fn combine(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Result<Option<Value>> {
        let combined = catch_unwind(AssertUnwindSafe(|| self.operator.combine(key, older, newer)));
        let combined = combined.map_err(|_| self.panicked())?;
        Ok(combined.and_then(|combined| Value::new(combined).ok()))
    }

    fn panicked(&self) -> Error {
        Error::internal(format!("the merge operator {:?} panicked", self.name))
    }
}
