//! Snapshots that nobody would write: a good one, changed behind its checksums, or made of nothing but bytes.
//!
//! Whatever is in it, it is refused and changes nothing, or it is restored, and then the router lives on: it takes
//! events and requests, stays within its bounds, can be snapshotted again, and gives all memory back.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::event::{BlockRemoved, BlockStored, EventBatch, EventLora, GroupKind, KvEvent};
use crate::frame::{FrameReader, FrameWriter, Kind};
use crate::hash::{
    BlockHasher, ExtraKey, HashContext, HashSeed, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};
use crate::index::IndexOptions;
use crate::{
    CacheDomain, EngineHash, Error, Finish, PodSpec, Policy, Request, Restore, Router, RouterOptions,
    Session, Tier, Workspace,
};

const BLOCK_SIZE: u32 = 2;
const MAX_BYTES: usize = 256 << 10;
const NOW: Duration = Duration::from_secs(100);

type Frames = Vec<(Kind, Vec<u8>)>;

/// Makes a snapshot of `bytes` and restores it. The first byte chooses: frames of these very bytes (kind, length,
/// payload), or a good snapshot with changes of four bytes each (what, which frame, where, with what).
///
/// # Errors
///
/// What should not have happened.
pub fn run(bytes: &[u8]) -> Result<(), String> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(()) };
    let text = |error: Error| format!("{error}");
    let good = written(&busy_router().map_err(text)?).map_err(text)?;
    let frames = if first % 4 == 0 { frames_of(rest) } else { changed(&read(&good).map_err(text)?, rest) };
    let snapshot = encode(&frames);
    let router = empty_router().map_err(text)?;
    let before = router.status();
    match restore(&router, &snapshot) {
        Err(error) if router.status() == before => drop(error),
        Err(error) => return Err(format!("changed by a snapshot that was refused: {error}")),
        Ok(()) => live_on(&router)?,
    }
    for pod in router.pods() {
        router.remove_pod(pod.id()).map_err(text)?;
    }
    match (router.index().blocks(), router.index().bytes()) {
        (0, 0) => Ok(()),
        (blocks, bytes) => Err(format!("{blocks} blocks and {bytes} bytes are left of no pod")),
    }
}

/// Uses a router and snapshots it again.
fn live_on(router: &Router) -> Result<(), String> {
    let text = |error: Error| format!("{error}");
    // A table may grow once more at the bound.
    let bytes = router.index().bytes();
    if bytes > MAX_BYTES * 3 / 2 {
        return Err(format!("{bytes} bytes, and {MAX_BYTES} is the bound"));
    }
    let again = written(router).map_err(text)?;
    let other = empty_router().map_err(text)?;
    restore(&other, &again)
        .map_err(|error| format!("what was restored cannot be restored again: {error}"))?;
    for pod in router.pods() {
        events(router, pod.name(), 3).map_err(text)?;
    }
    requests(router).map_err(text)?;
    router.expire(NOW + Duration::from_secs(1_000));
    for pod in router.pods() {
        let cleared = EventBatch { events: alloc::vec![KvEvent::Cleared], ..EventBatch::default() };
        router.apply_events(pod.id(), &cleared).map_err(text)?;
    }
    Ok(())
}

fn empty_router() -> Result<Router, Error> {
    let index = IndexOptions { shards: 2, max_bytes: MAX_BYTES, max_predicted: 40 };
    let options = RouterOptions { index, max_sessions: 8, ..RouterOptions::default() };
    let router = Router::new(options, Policy::default())?;
    let scheme =
        VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &HashSeed::Value(String::from("0")))?;
    router.add_domain(Arc::new(CacheDomain::new("native", BlockHasher::new(scheme, BLOCK_SIZE)?)?))?;
    let own = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE)?;
    router.add_domain(Arc::new(CacheDomain::new("translated", own)?))?;
    Ok(router)
}

/// One of everything that a snapshot has.
fn busy_router() -> Result<Router, Error> {
    let router = empty_router()?;
    for (name, domain) in [("n0", "native"), ("n1", "native"), ("t0", "translated"), ("t1", "translated")] {
        let Some(domain) = router.domain(domain) else { continue };
        let mut spec = PodSpec::new(name, domain);
        spec.options.adapters.push((1, String::from("adapter")));
        spec.labels.insert(String::from("zone"), String::from(name));
        router.add_pod(spec)?;
        events(&router, name, 2)?;
    }
    requests(&router)?;
    Ok(router)
}

/// What an engine may say of `prompts` prompts that share a beginning.
fn events(router: &Router, pod: &str, prompts: u32) -> Result<(), Error> {
    let Some(pod) = router.pod(pod, 0) else { return Ok(()) };
    let mut batch = EventBatch::default();
    let name = |prompt: u32, at: u32| EngineHash(u64::from(if at < 6 { at } else { prompt * 100 + at }) + 1);
    for prompt in 0..prompts {
        let stored = |blocks: core::ops::Range<u32>| BlockStored {
            parent: blocks.start.checked_sub(1).map(|before| name(prompt, before)),
            token_ids: blocks.clone().flat_map(|at| [at, if at < 6 { 0 } else { prompt }]).collect(),
            block_hashes: blocks.map(|at| name(prompt, at)).collect(),
            block_size: BLOCK_SIZE,
            tier: Some(Tier::Gpu),
            ..BlockStored::default()
        };
        let window = Some(GroupKind::SlidingWindow { window: 5 });
        let offloaded = BlockStored {
            block_hashes: alloc::vec![name(prompt, 2)],
            tier: Some(Tier::Cpu),
            ..BlockStored::default()
        };
        let waiting = BlockStored {
            lora: Some(EventLora { name: None, id: Some(1) }),
            extra_keys: alloc::vec![alloc::vec![ExtraKey::Text(String::from("salt"))]; 2],
            ..stored(40..42)
        };
        let removed = |at| BlockRemoved {
            block_hashes: alloc::vec![name(prompt, at)],
            tier: Some(Tier::Gpu),
            group: 0,
        };
        batch.events.extend([
            KvEvent::Stored(stored(0..20)),
            KvEvent::Stored(stored(5..9)),
            KvEvent::Stored(BlockStored { group: 1, group_kind: window, ..stored(0..7) }),
            KvEvent::Stored(offloaded),
            KvEvent::Stored(waiting),
            KvEvent::Removed(removed(12)),
            KvEvent::Removed(removed(19)),
        ]);
    }
    router.apply_events(pod.id(), &batch)?;
    router.apply(pod.id(), 0, &[0x93, 0xca, 0, 0, 0, 0, 0x90, 0])?;
    Ok(())
}

fn requests(router: &Router) -> Result<(), Error> {
    let (context, mut workspace) = (HashContext::default(), Workspace::default());
    for prompt in 0..12_u32 {
        let token_ids: Vec<u32> = (0..20).map(|at| if at < 12 { at } else { prompt }).collect();
        let id = format!("session {}", prompt % 5);
        let request = Request { session: Some(Session::Id(&id)), ..Request::new(&token_ids, &context) };
        // Pods that a changed snapshot brought may all be unfit.
        if let Ok(dispatch) = router.dispatch(&request, NOW, &mut workspace) {
            router.finish(dispatch.ticket, Finish::Completed, Some(prompt as usize));
        }
    }
    Ok(())
}

fn written(router: &Router) -> Result<Vec<u8>, Error> {
    let (mut snapshot, mut bytes) = (router.snapshot(NOW), Vec::new());
    while let Some(chunk) = snapshot.next_chunk(router)? {
        bytes.extend_from_slice(chunk);
    }
    Ok(bytes)
}

fn restore(router: &Router, snapshot: &[u8]) -> Result<(), Error> {
    let mut restore = Restore::default();
    snapshot.chunks(333).try_for_each(|chunk| restore.push(chunk))?;
    restore.finish(router, NOW).map(drop)
}

fn read(snapshot: &[u8]) -> Result<Frames, Error> {
    let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
    reader.push(snapshot, |frame| {
        frames.push((frame.kind, frame.payload.rest().to_vec()));
        Ok(())
    })?;
    Ok(frames)
}

fn encode(frames: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut writer = FrameWriter::new();
    for (kind, payload) in frames {
        writer.open(*kind);
        writer.raw(payload);
    }
    writer.close();
    writer.bytes().to_vec()
}

fn frames_of(mut bytes: &[u8]) -> Frames {
    let mut frames = Frames::new();
    while let [kind, length, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        frames.extend(Kind::from_byte(kind % 16).map(|kind| (kind, payload.to_vec())));
    }
    frames
}

fn changed(frames: &[(Kind, Vec<u8>)], changes: &[u8]) -> Frames {
    let mut frames = frames.to_vec();
    for change in changes.chunks_exact(4).take(16) {
        let count = frames.len();
        let (which, other) = (usize::from(change[1]) % count, usize::from(change[2]) % count);
        let payload = &mut frames[which].1;
        let at = usize::from(change[2]) % payload.len().max(1);
        match change[0] % 8 {
            0..4 if !payload.is_empty() => payload[at] = change[3],
            4 => payload.insert(at, change[3]),
            5 if !payload.is_empty() => {
                drop(payload.drain(at..(at + usize::from(change[3])).min(payload.len())))
            }
            6 => frames.swap(which, other),
            7 if count > 1 && change[3] % 2 == 0 => drop(frames.remove(which)),
            _ => {
                let copy = frames[which].clone();
                frames.insert(other, copy);
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_of_a_snapshot_may_be_any_other_behind_its_checksum() {
        let frames = read(&written(&busy_router().unwrap()).unwrap()).unwrap();
        for (which, (_, payload)) in frames.iter().enumerate() {
            for (at, &byte) in payload.iter().enumerate().take(256) {
                for value in [0, 1, byte ^ 0x80, byte.wrapping_add(1), 0xff] {
                    run(&[1, 0, which as u8, at as u8, value]).unwrap();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_snapshot_is_refused_or_survived(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(run(&bytes), Ok(()));
        }
    }
}
