//! Pods as the router knows them, in a snapshot.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;

use crate::frame::{FrameWriter, Reader};
use crate::index::snapshot::group_kind;
use crate::index::{CopyPolicy, GapPolicy, PodOptions};
use crate::pod::{Audit, PodSpec, Role, RoutedPod};
use crate::{CacheDomain, Error};

const ROLES: [Role; 3] = [Role::Prefill, Role::Decode, Role::Both];
const COPIES: [CopyPolicy; 3] = [CopyPolicy::Infer, CopyPolicy::Count, CopyPolicy::Set];
const ON_GAP: [GapPolicy; 2] = [GapPolicy::Clear, GapPolicy::Replay];

/// A pod that was read.
#[derive(Debug)]
pub(super) struct StagedSpec {
    pub(super) name: String,
    pub(super) dp_rank: u32,
    pub(super) domain: String,
    /// Of the domain's hasher.
    pub(super) fingerprint: u64,
    role: Role,
    pub(super) accepting: bool,
    labels: BTreeMap<String, String>,
    capacity: f64,
    pub(super) cold_turn: u64,
    pub(super) options: PodOptions,
    pub(super) audit: Audit,
    pub(super) overestimated_in_a_row: u32,
}

pub(super) fn write(pod: &RoutedPod, frames: &mut FrameWriter) {
    let PodSpec { name, dp_rank, domain, role, labels, capacity, options } = pod.spec();
    frames.text(&name);
    frames.number(u64::from(dp_rank));
    frames.text(domain.name());
    frames.hash(domain.hasher().fingerprint());
    frames.byte(position(&ROLES, role));
    frames.byte(u8::from(pod.is_accepting()));
    frames.number(labels.len() as u64);
    for (label, value) in &labels {
        frames.text(label);
        frames.text(value);
    }
    frames.hash(capacity.to_bits());
    write_options(&options, frames);
    frames.number(pod.cold_turn());
    let audit = pod.audit();
    [audit.agreed, audit.overestimated, audit.underestimated]
        .into_iter()
        .for_each(|count| frames.number(count));
    frames.number(u64::from(pod.overestimated_in_a_row()));
}

fn write_options(options: &PodOptions, frames: &mut FrameWriter) {
    frames.option(options.dp_rank.map(u64::from));
    frames.byte(position(&COPIES, options.copies));
    frames.byte(position(&ON_GAP, options.on_gap));
    frames.number(options.groups.len() as u64);
    for &(group, kind) in &options.groups {
        frames.number(u64::from(group));
        group_kind::write(kind, frames);
    }
    frames.number(options.adapters.len() as u64);
    for (id, name) in &options.adapters {
        frames.hash(*id as u64);
        frames.text(name);
    }
    for bound in [options.max_parked, options.max_parked_bytes, options.max_retired] {
        frames.number(bound as u64);
    }
}

impl StagedSpec {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (name, dp_rank, domain) = (reader.text()?, reader.number_u32()?, reader.text()?);
        let fingerprint = reader.hash()?;
        let (role, accepting) = (one_of(&ROLES, reader)?, reader.bool()?);
        let mut labels = BTreeMap::new();
        for _ in 0..reader.number()? {
            labels.insert(reader.text()?, reader.text()?);
        }
        let capacity = f64::from_bits(reader.hash()?);
        if !(capacity.is_finite() && capacity > 0.0) {
            return Err(reader.fail(format_args!("a capacity of {capacity}")));
        }
        let options = read_options(reader)?;
        let cold_turn = reader.count()?;
        let audit = Audit {
            agreed: reader.number()?,
            overestimated: reader.number()?,
            underestimated: reader.number()?,
        };
        let overestimated_in_a_row = reader.number_u32()?;
        if !reader.is_empty() {
            return Err(reader.fail("more than a pod in its record"));
        }
        Ok(Self {
            name,
            dp_rank,
            domain,
            fingerprint,
            role,
            accepting,
            labels,
            capacity,
            cold_turn,
            options,
            audit,
            overestimated_in_a_row,
        })
    }

    /// The pod to be added.
    pub(super) fn spec(&self, domain: Arc<CacheDomain>) -> PodSpec {
        PodSpec {
            name: self.name.clone(),
            dp_rank: self.dp_rank,
            domain,
            role: self.role,
            labels: self.labels.clone(),
            capacity: self.capacity,
            options: self.options.clone(),
        }
    }
}

fn read_options(reader: &mut Reader<'_>) -> Result<PodOptions, Error> {
    let dp_rank = match reader.bool()? {
        true => Some(reader.number_u32()?),
        false => None,
    };
    let (copies, on_gap) = (one_of(&COPIES, reader)?, one_of(&ON_GAP, reader)?);
    let mut options = PodOptions { dp_rank, copies, on_gap, ..PodOptions::default() };
    for _ in 0..reader.number()? {
        options.groups.push((reader.number_u32()?, group_kind::read(reader)?));
    }
    for _ in 0..reader.number()? {
        options.adapters.push((reader.hash()? as i64, reader.text()?));
    }
    // Bounds of a machine with wider words are as good as none.
    let mut bound = || reader.number().map(|bound| usize::try_from(bound).unwrap_or(usize::MAX));
    (options.max_parked, options.max_parked_bytes, options.max_retired) = (bound()?, bound()?, bound()?);
    Ok(options)
}

/// Position of a value, as it is written.
fn position<T: PartialEq>(all: &[T], one: T) -> u8 {
    all.iter().position(|other| *other == one).unwrap_or(all.len()) as u8
}

fn one_of<T: Copy>(all: &[T], reader: &mut Reader<'_>) -> Result<T, Error> {
    let at = reader.byte()?;
    match all.get(usize::from(at)) {
        Some(&one) => Ok(one),
        None => Err(reader.fail(format_args!("{at} names no role or rule"))),
    }
}
