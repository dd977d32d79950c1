//! The picker's own program, as an operator runs it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::client::get;
use crate::pod::Pod;

/// A running `kvroute-epp`.
pub(crate) struct Program {
    /// Where Envoy asks.
    pub(crate) address: SocketAddr,
    /// Where people look.
    pub(crate) watched: SocketAddr,
    health: SocketAddr,
    child: Child,
    folder: Folder,
}

impl Program {
    /// In front of these pods, each with what else is said of it; and with other sections, YAML.
    pub(crate) async fn start(name: &str, pods: &[(&Pod, &str)], sections: &str) -> Self {
        let folder = Folder::new(name);
        let (address, watched, health) = (free_address(), free_address(), free_address());
        let log = File::create(folder.0.join("epp.log")).expect("it can be made");
        let program = Self::write(&folder, address, watched, health, pods, sections);
        let child = Command::new(env!("CARGO_BIN_EXE_kvroute-epp"))
            .arg("--config")
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut program = Self { address, watched, health, child, folder };
        program.until_ready(pods.len()).await;
        program
    }

    fn write(
        folder: &Folder,
        address: SocketAddr,
        watched: SocketAddr,
        health: SocketAddr,
        pods: &[(&Pod, &str)],
        sections: &str,
    ) -> PathBuf {
        let pods: Vec<_> =
            pods.iter().map(|(pod, rest)| format!("  - {{url: '{}'{rest}}}\n", pod.url())).collect();
        let text = format!(
            "epp: {{listen: '{address}', watch: '{watched}', health: '{health}'}}\n{sections}\n\
             fleet:\n  drain_ms: 20000\n  pods:\n{}",
            pods.concat()
        );
        // In one step, as a ConfigMap does it: the program never reads half of it.
        let (path, beside) = (folder.0.join("epp.yaml"), folder.0.join("epp.new"));
        fs::write(&beside, text).expect("it can be written");
        fs::rename(&beside, &path).expect("it can be renamed");
        path
    }

    /// Says something else in its file; it looks there now and then.
    pub(crate) fn reconfigure(&self, pods: &[(&Pod, &str)], sections: &str) {
        Self::write(&self.folder, self.address, self.watched, self.health, pods, sections);
    }

    /// Waits until so many pods take requests.
    pub(crate) async fn until_ready(&mut self, pods: usize) {
        let watched = self.watched;
        wait_until("the picker is ready", Duration::from_secs(60), async || {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                panic!("it ended with {status}:\n{}", self.log());
            }
            if tokio::net::TcpStream::connect(watched).await.is_err() {
                return false;
            }
            let ready = get(watched, "/ready").await;
            ready.status == 200 && ready.json()["accepting"] == pods
        })
        .await;
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.0.join("epp.log")).unwrap_or_default()
    }

    /// Ends it at once, as when its machine fails.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the picker said:\n{}", self.log());
        }
    }
}

/// An address on which nobody listens now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// Waits until something is so.
pub(crate) async fn wait_until(what: &str, most: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < most, "{what}: not within {most:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A folder of its own, gone with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvroute-envoy-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
