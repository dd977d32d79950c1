//! A router's part in a shared index: it writes, asks, or both.

use std::sync::Arc;
use std::time::Instant;

use kvroute_core::{Error, HashContext, KnownPrefix, PodId, Router};

use super::config::Layout;
use super::reader::{IndexReader, Unanswered};
use super::status::{ReaderStatus, WriterStatus};
use super::writer::IndexWriter;
use crate::shared::config::SharedConfig;
use crate::shared::connection::Connection;

/// A router's part in a shared index, over connections of its own.
#[derive(Debug)]
pub struct SharedIndex {
    router: Arc<Router>,
    writer: Option<IndexWriter>,
    reader: Option<IndexReader>,
}

/// How it is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexStatus {
    /// As a writer; `None`: it writes nothing.
    pub writer: Option<WriterStatus>,
    /// As a reader; `None`: it asks for nothing.
    pub reader: Option<ReaderStatus>,
}

impl SharedIndex {
    /// Takes part as [`SharedConfig::index`] says; `None` if that says nothing, or there is no server. To be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the configuration is wrong.
    pub fn start(router: Arc<Router>, config: &SharedConfig) -> Result<Option<Self>, Error> {
        let index = &config.index;
        if !config.is_on() || !(index.write || index.read) {
            return Ok(None);
        }
        index.checked().map_err(|problem| Error::from(problem.at("index").at("shared")))?;
        let (mut writer, mut reader) = (None, None);
        if index.write {
            let connection = Connection::start(config.connection())?;
            writer =
                Some(IndexWriter::start(connection, Arc::clone(&router), index.options(&config.prefix))?);
        }
        if index.read {
            let connection = Connection::start(config.connection())?;
            let pods = Arc::clone(&router);
            let find = move |name: &str, rank: Option<u32>| find(&pods, name, rank);
            reader = Some(match index.layout {
                Layout::Kvroute => IndexReader::new(connection, &config.prefix, find, index.reader()),
                Layout::Llmd => IndexReader::of_llmd(connection, index.source()?, find, index.reader()),
            });
        }
        Ok(Some(Self { router, writer, reader }))
    }

    /// Whether it asks.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.reader.is_some()
    }

    /// What pods are said to hold of a prompt, for [`Request::known`](kvroute_core::Request::known), after the budget of one
    /// lookup at most. `model` is the base model that is asked for.
    ///
    /// # Errors
    ///
    /// Why nothing is known.
    pub async fn known(
        &self,
        model: Option<&str>,
        token_ids: &[u32],
        context: &HashContext,
    ) -> Result<Vec<KnownPrefix>, Unanswered> {
        let Some(reader) = &self.reader else { return Ok(Vec::new()) };
        if let Some(source) = reader.llmd() {
            // What llm-d has no keys for it knows nothing of.
            let Ok(keys) = source.keys(model.unwrap_or_default(), token_ids, context) else {
                return Ok(Vec::new());
            };
            let mut known = reader.known(0, keys).await?;
            let size = u64::from(source.block_size());
            known.retain_mut(|known| {
                let Ok(pod) = self.router.pod_by_id(known.pod) else { return false };
                let blocks = u64::from(known.blocks) * size / u64::from(pod.domain().block_size());
                known.blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
                true
            });
            return Ok(known);
        }
        let (begun, mut known) = (Instant::now(), Vec::new());
        for domain in self.router.domains().iter().filter(|domain| domain.serves(model)) {
            // One budget for all; most routers have one domain for a model.
            if !known.is_empty() && begun.elapsed() >= reader.budget() {
                break;
            }
            // The router says so in its explanation, if the prompt cannot be hashed.
            let Ok(mut blocks) = domain.hasher().hash(token_ids, context) else { continue };
            blocks.truncate(domain.searchable_blocks(token_ids.len()));
            if !blocks.is_empty() {
                known.extend(reader.known(domain.fingerprint(), blocks).await?);
            }
        }
        Ok(known)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> IndexStatus {
        IndexStatus {
            writer: self.writer.as_ref().map(IndexWriter::status),
            reader: self.reader.as_ref().map(IndexReader::status),
        }
    }
}

/// The pod of this name; where no rank is known, only if it has no other.
fn find(router: &Router, name: &str, rank: Option<u32>) -> Option<PodId> {
    match rank {
        Some(rank) => router.pod(name, rank).map(|pod| pod.id()),
        None => router.pod(name, 0).filter(|_| router.pod(name, 1).is_none()).map(|pod| pod.id()),
    }
}
