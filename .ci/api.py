#!/usr/bin/env python3
"""Writes the public API to docs/api.txt, one line for each item, so that changes are visible in a diff.

    .ci/api.py            # writes docs/api.txt
    .ci/api.py --check    # fails if docs/api.txt is out of date

It uses the JSON output of rustdoc, with all features, on Unix. This is an unstable option, which the stable
compiler accepts with RUSTC_BOOTSTRAP. The list includes the traits that each type implements, with Send and
Sync, but without blanket implementations and other auto traits.
"""

import argparse
import difflib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "docs/api.txt"
CRATE = "soloist"


class Renderer:
    def __init__(self, data):
        self.index = data["index"]
        self.lines = set()
        self.done = set()

    def item(self, number):
        return self.index.get(str(number))

    # Types, as in source.

    def type(self, t):
        if t is None:
            return "_"
        if t == "infer":
            return "_"
        ((kind, value),) = t.items()
        if kind in ("generic", "primitive"):
            return value
        if kind == "resolved_path":
            return self.path(value)
        if kind == "borrowed_ref":
            lifetime = f"{value['lifetime']} " if value["lifetime"] else ""
            mutable = "mut " if value["is_mutable"] else ""
            return f"&{lifetime}{mutable}{self.type(value['type'])}"
        if kind == "raw_pointer":
            return f"*{'mut' if value['is_mutable'] else 'const'} {self.type(value['type'])}"
        if kind == "tuple":
            return f"({', '.join(map(self.type, value))}{',' if len(value) == 1 else ''})"
        if kind == "slice":
            return f"[{self.type(value)}]"
        if kind == "array":
            return f"[{self.type(value['type'])}; {value['len']}]"
        if kind == "impl_trait":
            return f"impl {self.bounds(value)}"
        if kind == "dyn_trait":
            traits = [self.higher(one["generic_params"]) + self.path(one["trait"]) for one in value["traits"]]
            return "dyn " + " + ".join(traits + ([value["lifetime"]] if value["lifetime"] else []))
        if kind == "qualified_path":
            of, trait = self.type(value["self_type"]), value["trait"]
            name = value["name"] + self.args(value.get("args"))
            return f"<{of} as {self.path(trait)}>::{name}" if trait and trait["path"] else f"{of}::{name}"
        if kind == "function_pointer":
            return f"{self.header(value['header'])}fn{self.signature(value['sig'], names=False)}"
        raise SystemExit(f"{__file__} does not know this kind of type yet: {kind}")

    def path(self, path):
        return path["path"].removeprefix("crate::") + self.args(path["args"])

    def args(self, args):
        if not args:
            return ""
        if "parenthesized" in args:
            args = args["parenthesized"]
            output = f" -> {self.type(args['output'])}" if args["output"] else ""
            return f"({', '.join(map(self.type, args['inputs']))}){output}"
        args = args["angle_bracketed"]
        listed = []
        for arg in args["args"]:
            ((kind, value),) = arg.items() if isinstance(arg, dict) else (("infer", "_"),)
            listed.append(self.type(value) if kind == "type" else value["expr"] if kind == "const" else value)
        for constraint in args["constraints"]:
            ((kind, value),) = constraint["binding"].items()
            if kind == "equality":
                value = self.type(value["type"]) if "type" in value else value["constant"]["expr"]
                listed.append(f"{constraint['name']} = {value}")
            else:
                listed.append(f"{constraint['name']}: {self.bounds(value)}")
        return f"<{', '.join(listed)}>" if listed else ""

    def higher(self, params):
        names = ", ".join(param["name"] for param in params)
        return f"for<{names}> " if names else ""

    def bounds(self, bounds):
        listed = []
        for bound in bounds:
            ((kind, value),) = bound.items()
            if kind == "outlives":
                listed.append(value)
            elif kind == "use":
                names = (one if isinstance(one, str) else next(iter(one.values())) for one in value)
                listed.append(f"use<{', '.join(names)}>")
            else:
                modifier = {"none": "", "maybe": "?", "maybe_const": "~const "}[value["modifier"]]
                listed.append(modifier + self.higher(value["generic_params"]) + self.path(value["trait"]))
        return " + ".join(listed)

    def generics(self, generics):
        """The parameters in angle brackets, and the where clause."""
        listed = []
        for param in generics["params"]:
            ((kind, value),) = param["kind"].items()
            if kind == "type" and value["is_synthetic"]:
                continue
            if kind == "const":
                listed.append(f"const {param['name']}: {self.type(value['type'])}")
                continue
            bounds = " + ".join(value["outlives"]) if kind == "lifetime" else self.bounds(value["bounds"])
            default = f" = {self.type(value['default'])}" if value.get("default") else ""
            listed.append(param["name"] + (f": {bounds}" if bounds else "") + default)
        where = []
        for predicate in generics["where_predicates"]:
            ((kind, value),) = predicate.items()
            if kind == "bound_predicate":
                left = self.higher(value["generic_params"]) + self.type(value["type"])
                where.append(f"{left}: {self.bounds(value['bounds'])}")
            elif kind == "lifetime_predicate":
                where.append(f"{value['lifetime']}: {' + '.join(value['outlives'])}")
            else:
                where.append(f"{self.type(value['lhs'])} = {self.type(value['rhs']['type'])}")
        return (f"<{', '.join(listed)}>" if listed else "", f" where {', '.join(where)}" if where else "")

    def header(self, header):
        words = [word for word in ("const", "async", "unsafe") if header[f"is_{word}"]]
        abi = header["abi"]
        if abi != "Rust":
            words.append(f"extern \"{abi if isinstance(abi, str) else next(iter(abi))}\"")
        return "".join(f"{word} " for word in words)

    def signature(self, signature, names=True):
        inputs = []
        for name, t in signature["inputs"]:
            text = self.type(t)
            if name == "self" and text in ("Self", "&Self", "&mut Self"):
                inputs.append(text.replace("Self", "self"))
            else:
                inputs.append(f"{name}: {text}" if names else text)
        output = f" -> {self.type(signature['output'])}" if signature["output"] else ""
        return f"({', '.join(inputs)}){output}"

    # Items.

    def add(self, item, line):
        attributes = [attribute for attribute in item["attrs"] if attribute == "non_exhaustive"]
        must_use = any(isinstance(attribute, dict) and "must_use" in attribute for attribute in item["attrs"])
        if must_use:
            attributes.append("must_use")
        if item["deprecation"]:
            attributes.append("deprecated")
        self.lines.add(line + "".join(f"  #[{attribute}]" for attribute in attributes))

    def module(self, item, path):
        self.add(item, f"mod {path}")
        for number in item["inner"]["module"]["items"]:
            self.any(number, path)

    def any(self, number, path):
        item = self.item(number)
        if not item:
            return
        ((kind, inner),) = item["inner"].items()
        name = f"{path}::{item['name']}"
        if kind == "use":
            self.reexport(inner, path)
        elif (number, name) in self.done:
            return
        self.done.add((number, name))
        if kind == "module":
            self.module(item, name)
        elif kind == "function":
            self.function(item, name)
        elif kind in ("struct", "enum", "union"):
            self.data(item, kind, inner, name)
        elif kind == "trait":
            brackets, where = self.generics(inner["generics"])
            bounds = self.bounds(inner["bounds"])
            self.add(item, f"trait {name}{brackets}{': ' if bounds else ''}{bounds}{where}")
            self.members(inner["items"], name)
        elif kind == "type_alias":
            brackets, where = self.generics(inner["generics"])
            self.add(item, f"type {name}{brackets} = {self.type(inner['type'])}{where}")
        elif kind == "constant":
            self.add(item, f"const {name}: {self.type(inner['type'])}")
        elif kind == "static":
            self.add(item, f"static {name}: {self.type(inner['type'])}")
        elif kind == "macro":
            # The patterns, without their expansions.
            self.add(item, f"macro {name}! {' '.join(inner.split())}")
        elif kind == "proc_macro":
            self.add(item, f"macro {name}!")

    def reexport(self, use, path):
        target = self.item(use["id"]) if use["id"] is not None else None
        if use["is_glob"]:
            if target and "module" in target["inner"]:
                for number in target["inner"]["module"]["items"]:
                    self.any(number, path)
            else:
                self.lines.add(f"use {path}::* = {use['source']}::*")
        elif target and "use" not in target["inner"]:
            renamed = dict(target, name=use["name"])
            self.index["renamed"] = renamed
            self.any("renamed", path)
        else:
            self.lines.add(f"use {path}::{use['name']} = {use['source']}")

    def function(self, item, name):
        inner = item["inner"]["function"]
        brackets, where = self.generics(inner["generics"])
        line = f"{self.header(inner['header'])}fn {name}{brackets}{self.signature(inner['sig'])}{where}"
        self.add(item, line)

    def fields(self, numbers, name):
        for number in numbers:
            field = self.item(number) if number is not None else None
            if field:
                self.add(field, f"field {name}.{field['name']}: {self.type(field['inner']['struct_field'])}")

    def data(self, item, kind, inner, name):
        brackets, where = self.generics(inner["generics"])
        self.add(item, f"{kind} {name}{brackets}{where}")
        if kind == "enum":
            for number in inner["variants"]:
                variant = self.item(number)
                full = f"{name}::{variant['name']}"
                shape = variant["inner"]["variant"]["kind"]
                if shape == "plain":
                    self.add(variant, f"variant {full}")
                elif "tuple" in shape:
                    types = [self.type(self.item(one)["inner"]["struct_field"]) for one in shape["tuple"] if one]
                    self.add(variant, f"variant {full}({', '.join(types)})")
                else:
                    self.add(variant, f"variant {full} {{ .. }}")
                    self.fields(shape["struct"]["fields"], full)
        elif kind == "struct" and inner["kind"] != "unit":
            ((shape, value),) = inner["kind"].items()
            self.fields(value if shape == "tuple" else value["fields"], name)
        for number in inner["impls"]:
            block = self.item(number)
            if block:
                self.block(block["inner"]["impl"], name)

    def block(self, block, name):
        if block["blanket_impl"]:
            return
        trait = block["trait"]
        if not trait:
            self.members(block["items"], name)
            return
        if block["is_synthetic"] and trait["path"] not in ("Send", "Sync"):
            return
        # Of derives.
        if trait["path"] in ("StructuralPartialEq",):
            return
        brackets, where = self.generics(block["generics"])
        negative = "!" if block["is_negative"] else ""
        of = self.type(block["for"]).replace(name.split("::")[-1], name, 1)
        self.lines.add(f"impl{brackets} {negative}{self.path(trait)} for {of}{where}")

    def members(self, numbers, name):
        for number in numbers:
            item = self.item(number)
            if not item:
                continue
            ((kind, inner),) = item["inner"].items()
            full = f"{name}::{item['name']}"
            if kind == "function":
                self.function(item, full)
            elif kind == "assoc_const":
                self.add(item, f"const {full}: {self.type(inner['type'])}")
            elif kind == "assoc_type":
                bounds = self.bounds(inner["bounds"])
                self.add(item, f"type {full}{': ' if bounds else ''}{bounds}")


def place(line):
    """The sort key: items by their path, and the implementations of a type after the type."""
    words = line.split("  #[")[0].split()
    if words[0].startswith("impl"):
        name = line.split(" where ")[0].split(" for ")[-1]
        return (name.removeprefix("&").split("<")[0], 1, line)
    path = next((word for word in words if word.startswith(CRATE)), line)
    for end in "(<.!:{":
        path = path.replace("::", "\0").split(end)[0].replace("\0", "::")
    return (path, 0, line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if docs/api.txt is out of date")
    options = parser.parse_args()
    # A separate directory, so that the HTML documentation is not overwritten.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "api"
    command = ["cargo", "rustdoc", "--quiet", "--package", CRATE, "--lib", "--all-features"]
    command += ["--target-dir", target, "--", "-Z", "unstable-options", "--output-format", "json"]
    environment = os.environ | {"RUSTC_BOOTSTRAP": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    data = json.loads((target / f"doc/{CRATE}.json").read_text())
    renderer = Renderer(data)
    renderer.module(data["index"][str(data["root"])], CRATE)
    text = "".join(f"{line}\n" for line in sorted(renderer.lines, key=place))
    if not options.check:
        LIST.write_text(text)
        print(f"{len(renderer.lines)} lines in {LIST.relative_to(ROOT)}")
        return
    old = LIST.read_text().splitlines() if LIST.exists() else []
    changes = list(difflib.unified_diff(old, text.splitlines(), "docs/api.txt", "the crate", n=0, lineterm=""))
    if changes:
        print("\n".join(changes))
        sys.exit("docs/api.txt is out of date. If the change is intended, run .ci/api.py and commit docs/api.txt with it")


if __name__ == "__main__":
    main()
