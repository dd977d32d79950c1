//! A decision through the C ABI allocates nothing once its workspace is warm, whatever the request says of adapters,
//! salts, sessions and scores.

use std::ptr;

use kvroute::context::{kvroute_hash_context, kvroute_multimodal_item};
use kvroute::decide::{kvroute_decision, kvroute_router_decide};
use kvroute::memory::kvroute_str;
use kvroute::pod::kvroute_router_find_pod;
use kvroute::request::{kvroute_request, kvroute_score_column};
use kvroute::router::{kvroute_router, kvroute_router_free, kvroute_router_from_config};
use kvroute::status::KVROUTE_OK;
use kvroute::workspace::{kvroute_workspace_free, kvroute_workspace_new};

const CONFIG: &str = r#"{
    "domains": {"m": {"block_size": 16}},
    "pods": [{"name": "a", "domain": "m"}, {"name": "b", "domain": "m"}],
    "policy": {"decode": {"scorers": {"kv-cache": {"weight": 5}, "external": {"cheap": {"weight": 1}}}}}
}"#;

fn text(text: &'static str) -> kvroute_str {
    kvroute_str { data: text.as_ptr().cast(), len: text.len() }
}

/// A struct that begins with its size, else zero.
///
/// # Safety
///
/// Zero is a value of `T`, and its first field is a `usize`.
unsafe fn sized<T>() -> T {
    // SAFETY: the caller's word.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        (&raw mut value).cast::<usize>().write(size_of::<T>());
        value
    }
}

#[test]
fn a_warm_decision_allocates_nothing_whatever_the_request_says() {
    let token_ids: Vec<u32> = (0..32_768).collect();
    let workspace = kvroute_workspace_new();
    let mut router: *mut kvroute_router = ptr::null_mut();
    let mut pod = 0;
    // SAFETY: texts of ours and room for what is answered.
    unsafe {
        let (document, len) = (CONFIG.as_ptr().cast(), CONFIG.len());
        assert_eq!(kvroute_router_from_config(document, len, &raw mut router, ptr::null_mut()), KVROUTE_OK);
        let status = kvroute_router_find_pod(router, c"b".as_ptr(), 1, 0, &raw mut pod, ptr::null_mut());
        assert_eq!(status, KVROUTE_OK);
    }

    // SAFETY: structs of the C ABI begin with their size and may be zero.
    let (plain, mut salted, mut adapted): (kvroute_hash_context, kvroute_hash_context, kvroute_hash_context) =
        unsafe { (sized(), sized(), sized()) };
    let items = [kvroute_multimodal_item { identifier: text("c0ffee"), start: 100, length: 50 }];
    salted.cache_salt = text("tenant");
    (adapted.lora_name, adapted.lora_path) = (text("sql"), text("/adapters/sql"));
    (adapted.multimodal, adapted.multimodal_len) = (items.as_ptr(), items.len());
    let values = [0.5];
    let column =
        kvroute_score_column { scorer: text("cheap"), pods: &raw const pod, values: values.as_ptr(), len: 1 };

    let decide = |context: &kvroute_hash_context, session: &'static str| {
        // SAFETY: structs of the C ABI; what they point to outlives the call.
        unsafe {
            let (mut request, mut decision): (kvroute_request, kvroute_decision) = (sized(), sized());
            (request.token_ids, request.token_ids_len) = (token_ids.as_ptr(), token_ids.len());
            request.context = context;
            request.session_id = text(session);
            (request.scores, request.scores_len) = (&raw const column, 1);
            let (error, decision) = (ptr::null_mut(), &raw mut decision);
            assert_eq!(
                kvroute_router_decide(router, &raw const request, 0, workspace, decision, error),
                KVROUTE_OK
            );
            assert_eq!(((*decision).pod, (*decision).total), (pod, 0.5));
        }
    };
    let all = || {
        decide(&plain, "");
        decide(&salted, "alice");
        decide(&adapted, "bob");
    };
    // Twice: from the last to the first is a change of its own.
    (0..2).for_each(|_| all());
    let used = allocation_counter::measure(|| (0..50).for_each(|_| all()));
    assert_eq!(used.count_total, 0);
    // SAFETY: live objects, not used any more.
    unsafe {
        kvroute_workspace_free(workspace);
        kvroute_router_free(router);
    }
}
