//! Pods: adding and removing them, their load.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::Arc;

use kvroute_core::event::GroupKind;
use kvroute_core::index::{CopyPolicy, GapPolicy};
use kvroute_core::{AdapterReport, LoadReport, PodId, PodOptions, PodSpec, Role, Router};

use crate::domain::kvroute_domain;
use crate::error::kvroute_error;
use crate::guard;
use crate::handle;
use crate::memory::{array, fill, fill_text, kvroute_str, put, text, wanted};
use crate::options::count;
use crate::router::{known_domain, kvroute_router};
use crate::status::{Failure, KVROUTE_UNKNOWN_POD};
use crate::structs::{self, versioned};

/// No pod. Every pod's id is another number.
pub const KVROUTE_NO_POD: u64 = 0;

/// The pod does both.
pub const KVROUTE_ROLE_BOTH: i32 = 0;
/// The pod answers requests.
pub const KVROUTE_ROLE_DECODE: i32 = 1;
/// The pod computes prompts for decode pods, nothing else.
pub const KVROUTE_ROLE_PREFILL: i32 = 2;

/// A store of a block that the pod holds is a further copy, unless it reads like a full report.
pub const KVROUTE_COPIES_INFER: i32 = 0;
/// It always is.
pub const KVROUTE_COPIES_COUNT: i32 = 1;
/// It never is: the first removal takes the block away.
pub const KVROUTE_COPIES_SET: i32 = 2;

/// When batches are missing: drop the pod's view and go on.
pub const KVROUTE_ON_GAP_CLEAR: i32 = 0;
/// When batches are missing: apply nothing and ask for them (`KVROUTE_RESYNC_GAP`).
pub const KVROUTE_ON_GAP_REPLAY: i32 = 1;

/// A KV-cache group of full attention.
pub const KVROUTE_GROUP_FULL_ATTENTION: i32 = 0;
/// A KV-cache group with a sliding window.
pub const KVROUTE_GROUP_SLIDING_WINDOW: i32 = 1;
/// A KV-cache group of a kind that is not credited.
pub const KVROUTE_GROUP_UNKNOWN: i32 = 2;

/// A label of a pod.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_label {
    /// Its key.
    pub key: kvroute_str,
    /// Its value.
    pub value: kvroute_str,
}

/// A KV-cache group that is known beforehand.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_group {
    /// Its number in events.
    pub group: u32,
    /// `KVROUTE_GROUP_...`.
    pub kind: i32,
    /// Its window, if it has one; tokens.
    pub window: u32,
    /// Room; 0.
    pub reserved: u32,
}

/// A LoRA adapter by the engine's number, for engines whose events name no adapter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_adapter {
    /// The number.
    pub id: i64,
    /// The adapter's name.
    pub name: kvroute_str,
}

/// A pod: an engine, or one data-parallel rank of it. `name` and `domain` (or `domain_name`) are
/// needed, the rest may be zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_pod_options {
    /// `sizeof(kvroute_pod_options)`.
    pub struct_size: usize,
    /// Its name, such as "10.0.0.7:8000".
    pub name: kvroute_str,
    /// Its cache domain.
    pub domain: *const kvroute_domain,
    /// Its data-parallel rank; each rank is a pod of its own, with its own stream of events.
    pub dp_rank: u32,
    /// `KVROUTE_ROLE_...`.
    pub role: i32,
    /// Labels.
    pub labels: *const kvroute_label,
    /// How many.
    pub labels_len: usize,
    /// `KVROUTE_COPIES_...`.
    pub copies: i32,
    /// `KVROUTE_ON_GAP_...`.
    pub on_gap: i32,
    /// KV-cache groups known beforehand; events teach them too.
    pub groups: *const kvroute_group,
    /// How many.
    pub groups_len: usize,
    /// LoRA adapters by number, for vLLM before 0.14 and SGLang before 0.5.22.
    pub adapters: *const kvroute_adapter,
    /// How many.
    pub adapters_len: usize,
    /// Blocks that may wait for an unknown parent. 0: 4096; negative: none.
    pub max_parked: i64,
    /// Bytes those may take. 0: 16 MiB; negative: none.
    pub max_parked_bytes: i64,
    /// Blocks without a copy whose names are kept for offload announcements. 0: 4096; negative: none.
    pub max_retired: i64,
    /// Name of its cache domain, which the router knows, in place of `domain`.
    pub domain_name: kvroute_str,
    /// How fast it computes, as a multiple of an ordinary pod; above 0. 0: 1.
    pub capacity: f64,
}

versioned!(kvroute_pod_options up to domain_name);

/// The kind of a group by its number.
pub(crate) fn group_kind(what: &str, kind: i32, window: u32) -> Result<GroupKind, Failure> {
    match kind {
        KVROUTE_GROUP_FULL_ATTENTION => Ok(GroupKind::FullAttention),
        KVROUTE_GROUP_SLIDING_WINDOW if window > 0 => Ok(GroupKind::SlidingWindow { window }),
        KVROUTE_GROUP_SLIDING_WINDOW => Err(Failure::invalid(format!("{what}: a window of 0 tokens"))),
        KVROUTE_GROUP_UNKNOWN => Ok(GroupKind::Unknown),
        other => Err(Failure::invalid(format!("{what} is {other}, which is none"))),
    }
}

impl kvroute_pod_options {
    /// # Safety
    ///
    /// What it points to is the caller's.
    unsafe fn spec(&self, router: &Router) -> Result<PodSpec, Failure> {
        // SAFETY: the caller's word, for this and all that it points to.
        unsafe {
            let name =
                self.name.non_empty("options.name")?.ok_or_else(|| Failure::invalid("a pod needs a name"))?;
            let domain = match self.domain_name.non_empty("options.domain_name")? {
                Some(_) if !self.domain.is_null() => {
                    return Err(Failure::invalid("options.domain and options.domain_name: one of them"));
                }
                Some(name) => known_domain(router, name)?,
                None if self.domain.is_null() => return Err(Failure::null("options.domain")),
                None => Arc::clone(handle::get(self.domain)?),
            };
            let role = match self.role {
                KVROUTE_ROLE_BOTH => Role::Both,
                KVROUTE_ROLE_DECODE => Role::Decode,
                KVROUTE_ROLE_PREFILL => Role::Prefill,
                other => return Err(Failure::invalid(format!("options.role is {other}, which is none"))),
            };
            let mut labels = BTreeMap::new();
            for label in array("options.labels", self.labels, self.labels_len)? {
                let (key, value) =
                    (label.key.get("options.labels.key")?, label.value.get("options.labels.value")?);
                if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                    return Err(Failure::invalid(format!("label \"{key}\" is there twice")));
                }
            }
            let groups = array("options.groups", self.groups, self.groups_len)?.iter();
            let groups = groups.map(|group| {
                if group.reserved != 0 {
                    return Err(Failure::invalid("options.groups.reserved is not 0"));
                }
                Ok((group.group, group_kind("options.groups.kind", group.kind, group.window)?))
            });
            let adapters = array("options.adapters", self.adapters, self.adapters_len)?.iter();
            let adapters = adapters
                .map(|adapter| Ok((adapter.id, adapter.name.get("options.adapters.name")?.to_owned())));
            let default = PodOptions::default();
            let options = PodOptions {
                dp_rank: Some(self.dp_rank),
                copies: match self.copies {
                    KVROUTE_COPIES_INFER => CopyPolicy::Infer,
                    KVROUTE_COPIES_COUNT => CopyPolicy::Count,
                    KVROUTE_COPIES_SET => CopyPolicy::Set,
                    other => {
                        return Err(Failure::invalid(format!("options.copies is {other}, which is none")));
                    }
                },
                on_gap: match self.on_gap {
                    KVROUTE_ON_GAP_CLEAR => GapPolicy::Clear,
                    KVROUTE_ON_GAP_REPLAY => GapPolicy::Replay,
                    other => {
                        return Err(Failure::invalid(format!("options.on_gap is {other}, which is none")));
                    }
                },
                groups: groups.collect::<Result<_, Failure>>()?,
                adapters: adapters.collect::<Result<_, Failure>>()?,
                max_parked: count(self.max_parked, default.max_parked),
                max_parked_bytes: count(self.max_parked_bytes, default.max_parked_bytes),
                max_retired: count(self.max_retired, default.max_retired),
            };
            let spec = PodSpec::new(name, domain);
            let capacity = if self.capacity == 0.0 { spec.capacity } else { self.capacity };
            Ok(PodSpec { dp_rank: self.dp_rank, role, labels, capacity, options, ..spec })
        }
    }
}

/// Adds a pod, holding nothing; `*pod` is set to its id.
///
/// Errors: `KVROUTE_INVALID_INPUT` if a pod of this name and rank is there, if its domain's name belongs to a domain
/// that hashes differently, or for an option that is not one of the values it may have; `KVROUTE_UNKNOWN_DOMAIN`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_add_pod(
    router: *const kvroute_router,
    options: *const kvroute_pod_options,
    pod: *mut u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::writing(router, error, |router| {
            wanted("pod", pod)?;
            let spec = structs::read(options)?.spec(router)?;
            put("pod", pod, router.add_pod(spec)?.as_u64())
        })
    }
}

/// Removes a pod and all it holds. Its id names no pod ever again.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_remove_pod(
    router: *const kvroute_router,
    pod: u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe { guard::writing(router, error, |router| Ok(router.remove_pod(PodId::from_u64(pod))?)) }
}

/// Finds a pod by name and rank; `*pod` is set to its id.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_find_pod(
    router: *const kvroute_router,
    name: *const c_char,
    name_len: usize,
    dp_rank: u32,
    pod: *mut u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            wanted("pod", pod)?;
            let name = text("name", name, name_len)?;
            let Some(found) = router.pod(name, dp_rank) else {
                let message = format!("pod \"{name}\", rank {dp_rank}, is not in this router");
                return Err(Failure::new(KVROUTE_UNKNOWN_POD, message));
            };
            put("pod", pod, found.id().as_u64())
        })
    }
}

/// Writes the ids of all pods into `pods: [*written]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_pods(
    router: *const kvroute_router,
    pods: *mut u64,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            let ids: Vec<u64> = router.pods().iter().map(|pod| pod.id().as_u64()).collect();
            fill(&ids, pods, capacity, written)
        })
    }
}

/// Writes a pod's name, with a NUL behind it, into `buffer`. `dp_rank`, which may be NULL, is set to its rank.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_pod_name(
    router: *const kvroute_router,
    pod: u64,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    dp_rank: *mut u32,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            let pod = router.pod_by_id(PodId::from_u64(pod))?;
            fill_text(pod.name(), buffer, capacity, written)?;
            if dp_rank.is_null() { Ok(()) } else { put("dp_rank", dp_rank, pod.dp_rank()) }
        })
    }
}

/// Takes in what a pod says of its load: requests running and waiting, and the share of its KV cache in use, 0 to 1.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_INVALID_INPUT` if `kv_usage` is not in 0..=1 (NaN is not).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_report_load(
    router: *const kvroute_router,
    pod: u64,
    running: u32,
    waiting: u32,
    kv_usage: f32,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            Ok(router.report_load(PodId::from_u64(pod), LoadReport { running, waiting, kv_usage })?)
        })
    }
}

/// Forgets what a pod said of its load and its adapters, as if it never had: for reports that are too old to be true.
/// What this router has in flight there still counts.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_forget_load(
    router: *const kvroute_router,
    pod: u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe { guard::writing(router, error, |router| Ok(router.forget_load(PodId::from_u64(pod))?)) }
}

/// Takes in what a pod says of its LoRA adapters (`vllm:lora_requests_info`): how many can be in use at one time, and the
/// names of those that running requests use and of those that only waiting requests ask for. The names are those of
/// `kvroute_hash_context.lora_name`.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_report_adapters(
    router: *const kvroute_router,
    pod: u64,
    max: u32,
    running: *const kvroute_str,
    running_len: usize,
    waiting: *const kvroute_str,
    waiting_len: usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::writing(router, error, |router| {
            let names = |what: &'static str, names, len| -> Result<Vec<&str>, Failure> {
                array(what, names, len)?.iter().map(|name: &kvroute_str| name.get(what)).collect()
            };
            let running = names("running", running, running_len)?;
            let waiting = names("waiting", waiting, waiting_len)?;
            let report = AdapterReport { max, running: &running, waiting: &waiting };
            Ok(router.report_adapters(PodId::from_u64(pod), &report)?)
        })
    }
}

/// Lets a pod take new requests (not 0), or drains it (0). One that did not and does again has no failures to live down.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_set_accepting(
    router: *const kvroute_router,
    pod: u64,
    accepting: i32,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(
            router,
            error,
            |router| Ok(router.set_accepting(PodId::from_u64(pod), accepting != 0)?),
        )
    }
}
