"""How container images come to be there: pulled where an image registry answers, and built where none does.

`STACK=pull` or `STACK=build` decides it instead; `MIRROR` is a registry that all are pulled from. A built
image's tag ends in a key of all that went into it, so an image that is there is never stale.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from stack import cache, engine, pins
from stack.step import StepFailed, run, say, step, succeeds

FOLDER = cache.REPOSITORY / "images"
PULL_PROBE_SECONDS = 60

Context = Mapping[str, Path | str]


@functools.cache
def source() -> str:
    """`pull` or `build`: where images that are not ours come from. Says what was chosen, and why."""
    wanted = os.environ.get("STACK", "auto")
    if wanted not in {"auto", "pull", "build"}:
        raise StepFailed(f"STACK is {wanted!r}: use pull, build or auto")
    if wanted != "auto":
        say(f"• images: {wanted} (STACK={wanted})")
        return wanted
    if succeeds(["docker", "pull", "-q", pulled_as("base")], timeout=PULL_PROBE_SECONDS):
        say("• images: pull (an image registry answers; STACK=build builds them)")
        return "pull"
    say("• images: build (no image registry answers; STACK=pull insists)")
    return "build"


def build(
    name: str,
    version: str,
    context: Context,
    arguments: Mapping[str, str] | None = None,
    *,
    platform: str = "",
    labels: Mapping[str, str] | None = None,
) -> str:
    """Build images/<name> unless it is there; `context` maps names in the build context to files or texts.

    It is for this machine, unless a `platform` such as `linux/arm64` says otherwise.
    """
    arguments = {"BASE": base(platform), **(arguments or {})}
    flags = [f"--label={label}={value}" for label, value in sorted((labels or {}).items())]
    if platform:
        flags.append(f"--platform={platform}")
    parts: list[str | Path] = [FOLDER / name, repr(sorted(arguments.items())), *flags]
    for target, content in sorted(context.items()):
        parts += [target, content]
    tag = f"modelset/{name}:{version}-{cache.key(*parts)}"
    if engine.has_image(tag):
        return tag
    with step(f"build image {tag}"), tempfile.TemporaryDirectory() as folder:
        shutil.copytree(FOLDER / name, folder, dirs_exist_ok=True)
        for target, content in context.items():
            stage(Path(folder) / target, content)
        engine.build_image(
            tag, Path(folder), log=cache.log(f"image-{name}"), arguments=arguments, flags=flags
        )
    return tag


def stage(target: Path, content: Path | str) -> None:
    """Put a file, a folder or a text into a build context."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        target.write_text(content)
    elif content.is_dir():
        shutil.copytree(content, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        shutil.copy(content, target)


def full_name(tag: str) -> str:
    """The name of an image with its registry, which Docker leaves out of its own."""
    first, _, rest = tag.partition("/")
    if rest and (first == "localhost" or {".", ":"} & set(first)):
        return tag
    return f"docker.io/{tag}" if rest else f"docker.io/library/{tag}"


def pulled_as(name: str) -> str:
    """What an image is pulled as: its pin, or that below $MIRROR, which has a folder for each registry."""
    pinned, mirror = pins.load().pulled[name], os.environ.get("MIRROR", "").rstrip("/")
    return f"{mirror}/{full_name(pinned)}" if mirror else pinned


def pulled(name: str) -> str | None:
    """The tag of an image, after it was pulled where it was missing; None where it is to be built."""
    if name not in pins.load().pulled or source() != "pull":
        return None
    tag = pulled_as(name)
    if not engine.has_image(tag):
        with step(f"pull {tag}"):
            run(["docker", "pull", "-q", tag], log=cache.log("pull"))
    return tag


def base(platform: str = "") -> str:
    """The tag of Debian for this machine or a platform: pulled, or as debootstrap makes it."""
    if found := pulled("base"):
        return found
    release = pins.load().debian
    architecture = platform.partition("/")[2]
    tag = f"modelset/base:{release}" + (f"-{architecture}" if architecture else "")
    if engine.has_image(tag):
        return tag
    engine.apt_install(["debootstrap"])
    with step(f"build image {tag} with debootstrap"), tempfile.TemporaryDirectory() as work:
        log = cache.log("image-base")
        foreign = [f"--arch={architecture}"] if architecture else []
        files, context = Path(work) / "files", Path(work) / "context"
        run(["debootstrap", "--variant=minbase", *foreign, release, files], log=log)
        shutil.rmtree(files / "var/cache/apt/archives", ignore_errors=True)
        shutil.copytree(FOLDER / "base", context)
        run(["tar", "-C", files, "-cf", context / "files.tar", "."], log=log)
        # Not by `docker import`, which takes every archive for this machine's architecture.
        engine.build_image(tag, context, log=log, flags=[f"--platform={platform}"] if platform else [])
    return tag
