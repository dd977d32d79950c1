//! `cargo xtask live`: the gateway in front of real vLLM pods.

mod held;
mod options;
mod pods;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use self::held::Held;
use self::options::{Options, USAGE};
use self::pods::{MODEL, Pod, Site, free_ports, make_model, until_up};
use crate::steps::Context;
use crate::tool::{cargo, command, run};
use crate::{library, python};

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let python = std::env::var_os("KVROUTE_VLLM_PYTHON").map(PathBuf::from);
    let options = match Options::parse(arguments, python) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match live(&options) {
        Ok(summary) => {
            println!("\n{summary}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn live(options: &Options) -> Result<String, String> {
    let context = Context::new(0)?;
    let target = context.root().join(library::target_folder(context.root()));
    let folder = target.join("live");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let python = match &options.python {
        Some(python) => python.clone(),
        None => python::environment(
            &target.join("python/vllm"),
            &["--no-deps", "-r", "xtask/live/requirements.txt"],
        )?
        .python()
        .get_program()
        .into(),
    };
    let mut build =
        cargo("build --locked -p kvroute-gateway --bin kvroute-gateway -p kvroute-examples --bin demo");
    run(build.args(["--profile", &options.profile]))?;
    let model = folder.join(MODEL);
    make_model(&python, &model)?;

    give_up_after(options.limit);
    let begin = Instant::now();
    let site = Site { python, model, folder };
    let mut pods = Pod::three()?;
    for pod in &mut pods {
        pod.start(&site)?;
    }
    until_up(&mut pods)?;
    let started = begin.elapsed().as_secs_f64();
    let programs = target.join(options.profile_folder());
    let [port] = free_ports()?;
    let gateway = gateway(&site, &pods, port, &programs.join("kvroute-gateway"))?;
    demo(&site, &mut pods, port, &programs.join("demo"))?;
    drop(gateway);
    drop(pods);
    Ok(format!(
        "Passed, in {:.0} s, {started:.0} s of them until three pods answered. Their logs, the gateway's and its decision \
         log are in {}.",
        begin.elapsed().as_secs_f64(),
        site.folder.display()
    ))
}

/// Ends this process when the time is over, and with it all that it holds.
fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("error: not done after {limit:?}");
        std::process::exit(1);
    });
}

/// Starts the gateway, with the configuration that a person would write.
fn gateway(site: &Site, pods: &[Pod], port: u16, program: &Path) -> Result<Held, String> {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let mut config = format!(
        "gateway:\n  listen: 127.0.0.1:{port}\n  answer_headers: true\n  decision_log: {{path: {}}}\nfleet:\n  pods:\n",
        quoted(&site.folder.join("decisions.jsonl"))
    );
    for pod in pods {
        config += &format!("  - {{name: {}, url: 'http://127.0.0.1:{}'}}\n", pod.name, pod.port);
    }
    config += &format!("tokenizers:\n  {MODEL}: {{path: {}}}\n", quoted(&site.model));
    let file = site.folder.join("gateway.yaml");
    fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut gateway = command(&[program]);
    gateway.arg("--config").arg(file);
    Held::start(&site.python, "the gateway", site.folder.join("gateway.log"), &gateway)
}

/// Runs the demo, and does what it asks for on its standard error: stopping a pod, and starting it again.
fn demo(site: &Site, pods: &mut [Pod], port: u16, program: &Path) -> Result<(), String> {
    let mut demo = command(&[program]);
    demo.args(["--live", &format!("http://127.0.0.1:{port}"), "--model", MODEL, "--tokens", "400"]);
    demo.args(["--lose-a-pod", "--overfill", "--patience", "600"]);
    demo.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = demo.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let (answers, asked) = (child.stdin.take(), child.stderr.take());
    let (Some(mut answers), Some(asked)) = (answers, asked) else {
        return Err("the demo has no pipes".to_owned());
    };
    for line in BufReader::new(asked).lines().map_while(Result::ok) {
        eprintln!("{line}");
        let mut words = line.split_whitespace();
        let (Some(">"), Some(what), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let pod = pods.iter_mut().find(|pod| pod.name == name);
        let pod = pod.ok_or_else(|| format!("the demo asks to {what} {name}, which is no pod"))?;
        match what {
            "stop" => pod.kill()?,
            _ => pod.start(site)?,
        }
        // If it has ended meanwhile, its status says so.
        let _ = answers.write_all(b"\n");
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the demo ended with {status}")),
        Err(error) => Err(format!("the demo was lost: {error}")),
    }
}
