//! Reports as bytes.
//!
//! Version (1 byte), life (8), sequence, name, flags (1), entries, and with the flag `STATEMENT` what is in flight.
//! Integers whose size is fixed are little-endian, others LEB128; lists and texts begin with their length. What is read is
//! checked before room is made for it: a list has no more items than bytes are left.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Booked, Entry, Report, SentBlocks, Share, Stated};
use crate::Error;
use crate::frame::{FrameWriter, Reader};
use crate::request::Finish;

/// Raised by every change that a reader of the version before would misread.
const VERSION: u8 = 1;
const STATEMENT: u8 = 1;
const LAST: u8 = 2;

const BOOKED: u8 = 1;
const STARTED: u8 = 2;
/// And with what came before it: how the request ended.
const FINISHED: [(u8, Finish); 3] = [(3, Finish::Completed), (4, Finish::Failed), (5, Finish::Cancelled)];

/// Blocks of a pod's part: none, its own, those of the decode pod.
const NO_BLOCKS: u8 = 0;
const BLOCKS: u8 = 1;
const SPECULATIVE_BLOCKS: u8 = 2;
const SAME_BLOCKS: u8 = 3;

/// Bytes of the shortest entry, and of the shortest request that is stated.
const SHORTEST_ENTRY: u64 = 9;
const SHORTEST_STATED: u64 = 18;
/// Longest name.
pub(crate) const MAX_NAME: u64 = 256;

impl Report {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = FrameWriter::unframed();
        out.byte(VERSION);
        out.hash(self.life);
        out.number(self.sequence);
        out.text(&self.name);
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.byte(flag(self.statement.is_some(), STATEMENT) | flag(self.is_last, LAST));
        out.number(self.entries.len() as u64);
        self.entries.iter().for_each(|entry| write_entry(&mut out, entry));
        if let Some(statement) = &self.statement {
            out.number(statement.len() as u64);
            for stated in statement {
                out.hash(stated.request);
                write_share(&mut out, stated.decode);
                out.byte(u8::from(stated.prefill.is_some()));
                stated.prefill.iter().for_each(|share| write_share(&mut out, *share));
            }
        }
        out.into_bytes()
    }

    /// # Errors
    ///
    /// `Decode` with the offset of what is wrong.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new("peer report", bytes, 0);
        match reader.byte()? {
            VERSION => {}
            other => return Err(reader.fail(format_args!("version {other}; this library reads {VERSION}"))),
        }
        let (life, sequence) = (reader.hash()?, reader.count()?);
        let name = reader.text()?;
        if name.len() as u64 > MAX_NAME {
            return Err(reader.fail(format_args!("a name of {} bytes; {MAX_NAME} at most", name.len())));
        }
        let flags = reader.byte()?;
        if flags & !(STATEMENT | LAST) != 0 {
            return Err(reader.fail(format_args!("flags {flags:#x}")));
        }
        let count = reader.at_most(reader.left() / SHORTEST_ENTRY, "entries")?;
        let entries = (0..count).map(|_| read_entry(&mut reader)).collect::<Result<_, _>>()?;
        let statement = if flags & STATEMENT != 0 { Some(read_statement(&mut reader)?) } else { None };
        if !reader.is_empty() {
            return Err(reader.fail("it should end here"));
        }
        Ok(Self { life, name, sequence, is_last: flags & LAST != 0, entries, statement })
    }
}

fn write_entry(out: &mut FrameWriter, entry: &Entry) {
    match entry {
        Entry::Started(request) => {
            out.byte(STARTED);
            out.hash(*request);
        }
        Entry::Finished(request, how) => {
            let tag = FINISHED.iter().find(|(_, finish)| finish == how).map_or(0, |(tag, _)| *tag);
            out.byte(tag);
            out.hash(*request);
        }
        Entry::Booked(request, booked) => {
            out.byte(BOOKED);
            out.hash(*request);
            write_share(out, booked.decode);
            write_blocks(out, booked.decode_blocks.as_ref(), None);
            out.byte(u8::from(booked.prefill.is_some()));
            if let Some(prefill) = booked.prefill {
                write_share(out, prefill);
                write_blocks(out, booked.prefill_blocks.as_ref(), booked.decode_blocks.as_ref());
            }
            out.byte(u8::from(booked.session.is_some()));
            booked.session.iter().for_each(|session| out.wide_hash(*session));
            out.byte(u8::from(booked.is_cold));
        }
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, Error> {
    let (tag, request) = (reader.byte()?, reader.hash()?);
    if tag == STARTED {
        return Ok(Entry::Started(request));
    }
    if let Some((_, how)) = FINISHED.iter().find(|(finished, _)| *finished == tag) {
        return Ok(Entry::Finished(request, *how));
    }
    if tag != BOOKED {
        return Err(reader.fail(format_args!("no entry is of kind {tag}")));
    }
    let decode = read_share(reader)?;
    let decode_blocks = read_blocks(reader, None)?;
    let (mut prefill, mut prefill_blocks) = (None, None);
    if reader.bool()? {
        prefill = Some(read_share(reader)?);
        prefill_blocks = read_blocks(reader, decode_blocks.as_ref())?;
    }
    let session = if reader.bool()? { Some(reader.wide_hash()?) } else { None };
    let is_cold = reader.bool()?;
    Ok(Entry::Booked(request, Booked { decode, decode_blocks, prefill, prefill_blocks, session, is_cold }))
}

fn read_statement(reader: &mut Reader<'_>) -> Result<Vec<Stated>, Error> {
    let count = reader.at_most(reader.left() / SHORTEST_STATED, "requests in flight")?;
    let stated = |reader: &mut Reader<'_>| {
        let (request, decode) = (reader.hash()?, read_share(reader)?);
        let prefill = if reader.bool()? { Some(read_share(reader)?) } else { None };
        Ok(Stated { request, decode, prefill })
    };
    (0..count).map(|_| stated(reader)).collect()
}

fn write_share(out: &mut FrameWriter, share: Share) {
    out.hash(share.pod);
    out.number(share.prefill_tokens);
}

fn read_share(reader: &mut Reader<'_>) -> Result<Share, Error> {
    Ok(Share { pod: reader.hash()?, prefill_tokens: reader.number()? })
}

fn write_blocks(out: &mut FrameWriter, blocks: Option<&SentBlocks>, same: Option<&SentBlocks>) {
    match blocks {
        None => out.byte(NO_BLOCKS),
        Some(_) if blocks == same => out.byte(SAME_BLOCKS),
        Some(blocks) => {
            out.byte(if blocks.is_speculative { SPECULATIVE_BLOCKS } else { BLOCKS });
            out.hash(blocks.domain);
            out.number(blocks.hashes.len() as u64);
            out.hashes(blocks.hashes.iter().copied());
        }
    }
}

fn read_blocks(reader: &mut Reader<'_>, same: Option<&SentBlocks>) -> Result<Option<SentBlocks>, Error> {
    let is_speculative = match (reader.byte()?, same) {
        (NO_BLOCKS, _) => return Ok(None),
        (SAME_BLOCKS, Some(same)) => return Ok(Some(same.clone())),
        (BLOCKS, _) => false,
        (SPECULATIVE_BLOCKS, _) => true,
        (other, _) => return Err(reader.fail(format_args!("blocks of kind {other}"))),
    };
    let domain = reader.hash()?;
    let count = reader.at_most(reader.left() / size_of::<u64>() as u64, "blocks")?;
    let hashes: Arc<[u64]> = reader.hashes(count)?.collect();
    Ok(Some(SentBlocks { domain, is_speculative, hashes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec;

    fn sample() -> Report {
        let share = |pod| Share { pod, prefill_tokens: pod * 100 };
        let blocks = SentBlocks { domain: 7, is_speculative: true, hashes: (0..20).collect() };
        let booked = Booked {
            decode: share(1),
            decode_blocks: Some(blocks.clone()),
            prefill: Some(share(2)),
            prefill_blocks: Some(blocks),
            session: Some(u128::MAX - 5),
            is_cold: true,
        };
        let plain = Booked { prefill: None, prefill_blocks: None, session: None, ..booked.clone() };
        Report {
            life: u64::MAX - 1,
            name: "gateway-1".to_string(),
            sequence: 300,
            is_last: false,
            entries: vec![
                Entry::Booked(5, booked),
                Entry::Booked(6, plain),
                Entry::Started(5),
                Entry::Finished(5, Finish::Failed),
                Entry::Finished(6, Finish::Cancelled),
                Entry::Finished(u64::MAX, Finish::Completed),
            ],
            statement: Some(vec![
                Stated { request: 6, decode: share(1), prefill: None },
                Stated { request: 7, decode: share(1), prefill: Some(share(3)) },
            ]),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let full = sample();
        let empty =
            Report { name: String::new(), entries: vec![], statement: None, is_last: true, ..sample() };
        for report in [full, empty] {
            assert_eq!(Report::from_bytes(&report.to_bytes()), Ok(report));
        }
    }

    #[test]
    fn both_pods_blocks_are_written_once_where_they_are_the_same() {
        let report = sample();
        let mut longer = report.clone();
        let Entry::Booked(_, booked) = &mut longer.entries[0] else { unreachable!() };
        booked.prefill_blocks.as_mut().unwrap().domain = 8;
        assert_eq!(longer.to_bytes().len() - report.to_bytes().len(), 8 + 1 + 20 * 8);
    }

    #[test]
    fn what_is_cut_off_changed_or_too_much_is_no_panic_and_no_report_of_more_than_it_holds() {
        let good = sample().to_bytes();
        for length in 0..good.len() {
            assert!(Report::from_bytes(&good[..length]).is_err(), "cut off at {length}");
        }
        assert!(Report::from_bytes(&[&*good, &[0]].concat()).is_err());
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = good.clone();
                changed[at] = value;
                if let Ok(report) = Report::from_bytes(&changed) {
                    assert!(report.entries.len() * SHORTEST_ENTRY as usize <= changed.len());
                }
            }
        }
        let mut other = good;
        other[0] = 9;
        let error = Report::from_bytes(&other).unwrap_err().to_string();
        assert_eq!(error, "peer report, byte 1: version 9; this library reads 1");
    }
}
