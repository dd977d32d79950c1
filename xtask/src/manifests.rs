//! What is deployed: the container file is linted, the Kubernetes manifests are validated against published schemas. What
//! the two have to do with the programs is tested where those are: `examples/gateway/tests/gateway/deploy/`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tool::{command, output, run};
use crate::{library, python};

/// Where the manifests are, and the container file.
const FOLDER: &str = "examples/deploy";
const CONTAINER_FILE: &str = "examples/deploy/Containerfile";

/// Go modules that carry CustomResourceDefinitions, and where in them: those of the Gateway API and of its Inference
/// Extension, as they are released.
const DEFINITIONS: [(&str, &str); 2] = [
    (
        "sigs.k8s.io/gateway-api-inference-extension@v1.4.0",
        "config/crd/bases/inference.networking.k8s.io_inferencepools.yaml",
    ),
    ("sigs.k8s.io/gateway-api@v1.4.0", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
];

/// Lints and validates; answers how much.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let folder = root.join(library::target_folder(root)).join("manifests");
    let tools = root.join("xtask/manifests");
    let requirements = tools.join("requirements.txt").display().to_string();
    let environment = python::environment(&folder, &["-r", &requirements])?;
    run(command(&[folder.join("bin/hadolint")]).arg(root.join(CONTAINER_FILE)))?;
    let definitions = definitions()?;
    let mut check = environment.python();
    check.arg(tools.join("check.py")).arg(root.join(FOLDER)).arg("--crds").args(definitions);
    let said = output(&mut check)?;
    Ok(said.lines().last().unwrap_or_default().to_owned())
}

/// The files with definitions, which Go fetches once and keeps.
fn definitions() -> Result<Vec<PathBuf>, String> {
    // Without a module around: these are no dependencies.
    let outside = std::env::temp_dir().join(format!("kvroute-manifests-{}", std::process::id()));
    fs::create_dir_all(&outside).map_err(|error| format!("{}: {error}", outside.display()))?;
    let files = DEFINITIONS.iter().map(|(module, file)| {
        let mut download = command(&["go", "mod", "download", "-json", module]);
        let said = output(download.current_dir(&outside).env("GOWORK", "off"))?;
        let folder = folder_of(&said).ok_or_else(|| format!("{module}: Go names no folder:\n{said}"))?;
        Ok(Path::new(folder).join(file))
    });
    let files = files.collect();
    let removed = fs::remove_dir_all(&outside).map_err(|error| format!("{}: {error}", outside.display()));
    removed.and(files)
}

/// `Dir` of what `go mod download -json` says; paths with what JSON escapes are none of Go's.
fn folder_of(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_module_is_read() {
        let said = "{\n\t\"Path\": \"x\",\n\t\"Dir\": \"/go/pkg/mod/x@v1\",\n\t\"Sum\": \"h1:=\"\n}";
        assert_eq!(folder_of(said), Some("/go/pkg/mod/x@v1"));
        assert_eq!(folder_of("{\n\t\"Error\": \"none\"\n}"), None);
    }
}
