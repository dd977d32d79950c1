"""Kubernetes manifests against Kubernetes' own schemas, and custom resources against their definitions.

    check.py FOLDER --crds FILE...

Each document of each FOLDER/*.yaml is validated strictly: a field that the schema does not know is an error, because a
server would drop it without a word. Core kinds are looked up in the schemas that kubernetes-validate carries, for the
oldest and the newest release in VERSIONS; others in the CustomResourceDefinitions given. Every document is also
validated once more with a field that nobody knows, which must be refused: so a schema that lets everything pass fails.
"""

import argparse
import copy
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

# The first is the oldest that knows all that is used: `preStop.sleep` needs no feature gate from it on.
VERSIONS = ["1.30", "1.37"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--crds", type=pathlib.Path, nargs="+", default=[])
    options = parser.parse_args()
    custom = {}
    for path in options.crds:
        custom.update(definitions(path))

    problems, checked = [], 0
    for path in sorted(options.folder.glob("*.yaml")):
        for at, document in enumerate(yaml.safe_load_all(path.read_text())):
            where = f"{path.name}, document {at + 1}"
            if document is None:
                problems.append(f"{where}: empty")
                continue
            where += f" ({document.get('kind')} {document.get('metadata', {}).get('name')})"
            found = refused(document, custom)
            if found:
                problems.append(f"{where}: {found}")
                continue
            checked += 1
            for changed in misspelt(document):
                if not refused(changed, custom):
                    problems.append(f"{where}: is not checked, anything would pass")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{checked} documents of Kubernetes {' and '.join(VERSIONS)} and {len(custom)} custom kinds")
    return 1 if problems or not checked else 0


def definitions(path):
    """Schemas of a CustomResourceDefinition by (apiVersion, kind)."""
    crd = yaml.safe_load(path.read_text())
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    return {
        (f"{group}/{version['name']}", kind): strict(version["schema"]["openAPIV3Schema"])
        for version in crd["spec"]["versions"]
        if version["served"]
    }


def strict(schema):
    """The schema as one that allows nothing it does not name; metadata is Kubernetes' own."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # Of a map of properties the keys are names, not keywords.
    made = {
        key: {name: strict(part) for name, part in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
    }
    is_open = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if "properties" in made and not is_open:
        made["additionalProperties"] = False
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    return made


def refused(document, custom):
    """Why a document is refused; empty if it is not."""
    kind = (document.get("apiVersion"), document.get("kind"))
    try:
        if kind in custom:
            jsonschema.Draft7Validator(custom[kind]).validate(document)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return f"{'.'.join(str(part) for part in error.path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return f"no schema: {error.message}"
    return ""


def misspelt(document):
    """The document with a field that nobody knows, at its top and in its specification."""
    top = copy.deepcopy(document)
    top["notAField"] = 1
    yield top
    if isinstance(document.get("spec"), dict):
        inner = copy.deepcopy(document)
        inner["spec"]["notAField"] = 1
        yield inner


if __name__ == "__main__":
    sys.exit(main())
