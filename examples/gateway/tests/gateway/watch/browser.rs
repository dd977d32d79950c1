//! A headless Chromium, told what to do over the DevTools protocol: JSON through a pair of pipes, ended by zeros.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A browser with one page. It ends with this, and by itself after two minutes.
pub(super) struct Browser {
    child: Child,
    commands: File,
    answers: BufReader<File>,
    folder: PathBuf,
    session: Option<String>,
    last: u64,
}

impl Browser {
    pub(super) fn open(url: &str, width: u32, height: u32) -> Self {
        let folder = std::env::temp_dir().join(format!("kvroute-chromium-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (commands, answers) = (folder.join("commands"), folder.join("answers"));
        let made = Command::new("mkfifo").arg(&commands).arg(&answers).status().expect("mkfifo");
        assert!(made.success());
        let script = "exec timeout 120 chromium --headless=new --no-sandbox --disable-gpu --remote-debugging-pipe \
                      --no-first-run --disable-dev-shm-usage --hide-scrollbars --user-data-dir=\"$0/profile\" \
                      about:blank 3<\"$0/commands\" 4>\"$0/answers\"";
        let child = Command::new("sh")
            .args(["-c", script])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let commands = OpenOptions::new().write(true).open(commands).expect("the browser reads");
        let answers = BufReader::new(File::open(answers).expect("the browser writes"));
        let mut browser = Self { child, commands, answers, folder, session: None, last: 0 };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.ask("Emulation.setDeviceMetricsOverride", size);
        browser.ask("Page.navigate", json!({ "url": url }));
        browser
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).expect("the browser writes");
            assert_eq!(answer.pop(), Some(0), "the browser ended");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            // Others are events.
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// What an expression of JavaScript says.
    pub(super) fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let result = self.ask("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression says yes.
    pub(super) fn until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.eval(expression) != true {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{expression}: not within 30 s; the page says\n{}",
                self.eval("document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn prefers(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.ask("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    pub(super) fn screenshot(&mut self, path: &Path) {
        let result = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        let data = result["data"].as_str().expect("an image");
        fs::write(path, STANDARD.decode(data).expect("base64")).expect("it can be written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = json!({ "id": 0, "method": "Browser.close" });
        let _ = self.commands.write_all(format!("{close}\0").as_bytes());
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
