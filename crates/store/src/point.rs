//! Points: what a container's files were at some moment, kept under a name.
//!
//! A point holds a frozen layer, and so all below it. It belongs to a container, by whose end the
//! engine removes it; what was made from it since has layers of its own to hold on to.

use std::sync::Arc;

use seacow_spec::{ChainId, Classified, ErrorClass, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::IoFailure;
use crate::layer::Layer;
use crate::meta::{MetaError, Table, Write};
use crate::shared::Shared;

/// Points of one container: ten thousand, a day of one every ten seconds.
const MAX_POINTS: usize = 10_000;

/// Bytes of a name.
const MAX_NAME: usize = 128;

/// Why a point could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// The container has none of that name or id.
    #[error("No such snapshot: {0}")]
    NotFound(String),
    /// The beginning of several ids.
    #[error("multiple snapshots found with provided prefix: {0}")]
    Ambiguous(String),
    /// The container has one of that name.
    #[error("Conflict. The snapshot name {name:?} is already in use by snapshot {holder:?}")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        holder: String,
    },
    /// Not a name.
    #[error("Invalid snapshot name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// The container has enough.
    #[error("a container has at most {MAX_POINTS} snapshots: remove some")]
    TooMany,
    /// No random numbers.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Classified for PointError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::NameTaken { .. } | Self::TooMany => ErrorClass::Conflict,
            Self::Ambiguous(_) | Self::InvalidName(_) => ErrorClass::InvalidArgument,
            Self::Io(error) => error.class(),
            Self::Meta(error) => error.class(),
        }
    }
}

/// A point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// 64 hex digits.
    pub id: String,
    /// Unique among the container's.
    pub name: String,
    /// Id of the container.
    pub container: String,
    /// The files.
    pub layer: ChainId,
    /// Those of them that are the image's.
    pub base: Option<ChainId>,
    /// When it was made.
    pub created: Timestamp,
}

/// The points of a store.
#[derive(Clone, Debug)]
pub struct Points {
    shared: Arc<Shared>,
}

impl Points {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Keeps a frozen layer as a point of a container, durably. Without a name it gets a number.
    ///
    /// # Errors
    /// The name is malformed or taken, or the metadata failed.
    pub fn create(
        &self,
        container: &str,
        name: Option<&str>,
        layer: &Layer,
        base: Option<&ChainId>,
    ) -> Result<Point, PointError> {
        let id = seacow_spec::id::random_hex()
            .map_err(|error| IoFailure::new("draw random numbers for", "a snapshot", error))?;
        let mut change = self.shared.change();
        let others = self.list(Some(container));
        if others.len() >= MAX_POINTS {
            return Err(PointError::TooMany);
        }
        let name = match name {
            Some(name) => name.to_owned(),
            None => next_number(&others),
        };
        check_name(&name, &others)?;
        let point = Point {
            id,
            name,
            container: container.to_owned(),
            layer: layer.chain_id().clone(),
            base: base.cloned(),
            created: Timestamp::now(),
        };
        change.write(Write::json(Table::Points, &point.id, &point)?);
        change.commit(|catalog| {
            catalog.points.insert(point.id.clone(), Arc::new(point.clone()));
        })?;
        Ok(point)
    }

    /// Whether a new point may have this name.
    ///
    /// # Errors
    /// It is malformed or taken.
    pub fn check(&self, container: &str, name: &str) -> Result<(), PointError> {
        check_name(name, &self.list(Some(container)))
    }

    /// Points of one container or all, oldest first.
    pub fn list(&self, container: Option<&str>) -> Vec<Arc<Point>> {
        let wanted = |point: &&Arc<Point>| container.is_none_or(|id| point.container == id);
        let mut points: Vec<_> = self.shared.catalog().points.values().filter(wanted).cloned().collect();
        points.sort_by_key(|point| point.created);
        points
    }

    /// A point of a container by name, id, or the beginning of an id.
    ///
    /// # Errors
    /// There is none, or several begin so.
    pub fn find(&self, container: &str, reference: &str) -> Result<Arc<Point>, PointError> {
        let points = self.list(Some(container));
        let exact = |point: &&Arc<Point>| point.name == reference || point.id == reference;
        if let Some(point) = points.iter().find(exact) {
            return Ok(point.clone());
        }
        let mut begins =
            points.iter().filter(|point| !reference.is_empty() && point.id.starts_with(reference));
        match (begins.next(), begins.next()) {
            (Some(point), None) => Ok(point.clone()),
            (Some(_), Some(_)) => Err(PointError::Ambiguous(reference.to_owned())),
            (None, _) => Err(PointError::NotFound(reference.to_owned())),
        }
    }

    /// Removes a point; not there is fine. Its layers go as far as nobody else has them.
    ///
    /// # Errors
    /// The metadata failed.
    pub fn remove(&self, id: &str) -> Result<(), PointError> {
        self.remove_where(|point| point.id == id)
    }

    /// Removes all points of a container.
    ///
    /// # Errors
    /// The metadata failed.
    pub fn remove_of(&self, container: &str) -> Result<(), PointError> {
        self.remove_where(|point| point.container == container)
    }

    /// Removes the points of containers that are no more, after a crash.
    ///
    /// # Errors
    /// The metadata failed.
    pub fn retain(&self, lives: impl Fn(&str) -> bool) -> Result<(), PointError> {
        self.remove_where(|point| !lives(&point.container))
    }

    fn remove_where(&self, gone: impl Fn(&Point) -> bool) -> Result<(), PointError> {
        let known =
            |points: Vec<Arc<Point>>| points.into_iter().filter(|point| gone(point)).collect::<Vec<_>>();
        // Nearly always there are none, which is quickly seen.
        if self.shared.catalog().points.is_empty() {
            return Ok(());
        }
        let mut change = self.shared.change();
        let points = known(self.list(None));
        if points.is_empty() {
            return Ok(());
        }
        for point in &points {
            change.write(Write::Delete(Table::Points, point.id.clone()));
        }
        change.commit(|catalog| {
            for point in &points {
                catalog.points.remove(&point.id);
            }
        })?;
        for point in &points {
            change.release_layers(&point.layer)?;
        }
        Ok(())
    }
}

fn check_name(name: &str, others: &[Arc<Point>]) -> Result<(), PointError> {
    if !is_name(name) {
        return Err(PointError::InvalidName(name.to_owned()));
    }
    match others.iter().find(|other| other.name == name) {
        Some(other) => Err(PointError::NameTaken { name: name.to_owned(), holder: other.id.clone() }),
        None => Ok(()),
    }
}

/// One more than the largest there is: a name is not used again while later ones are there.
fn next_number(others: &[Arc<Point>]) -> String {
    let numbers = others.iter().filter_map(|other| other.name.parse::<u32>().ok());
    numbers.max().unwrap_or(0).saturating_add(1).to_string()
}

/// A name as Docker's, of one character at least.
pub(crate) fn is_name(name: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let all =
        name.bytes().enumerate().all(|(at, b)| if at == 0 { b.is_ascii_alphanumeric() } else { rest(b) });
    !name.is_empty() && name.len() <= MAX_NAME && all
}
