"""Runs the Dockerfile's own steps where no Docker engine is at hand, each stage in a root folder of its own.

    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm DIR
    python -m tests.deploy.prove_dockerfile DIR --work EMPTY_DIR [--target cpu] [--build-arg K=V]
        [--env K=V] [--bind PATH]

DIR stands for the official Python image, whose interpreter lies elsewhere but is of the same version. Every RUN line
runs in a chroot as the Dockerfile says, COPY obeys .dockerignore. Then the target's CMD runs as its USER, on a root
that cannot be written except in its volumes and /tmp, without a network; its HEALTHCHECK must pass, SIGTERM must end it
with 0.
Needs root and Linux. ``--env`` and ``--bind`` let pip find a mirror; nothing of them stays in the Dockerfile.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.deploy.dockerfile import ROOT, Ignore, Instruction, Stage, copy_source, needed, read_stages

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY_SECONDS = 600


class Image:
    """A stage that was built: its root folder and what ENV, USER, WORKDIR, VOLUME, CMD and HEALTHCHECK say."""

    def __init__(self, root: Path, above: "Image | None" = None) -> None:
        self.root = root
        self.env = dict(above.env) if above else {"PATH": PATH}
        self.user, self.folder = (above.user, above.folder) if above else ("0:0", "/")
        self.said: dict[str, list[str]] = dict(above.said) if above else {}

    def mounts(self, binds: list[str]) -> str:
        """Shell lines that give the root its devices, processes, names and ``binds``."""
        lines = [f"mount --rbind /dev {self.root}/dev", f"mount -t proc proc {self.root}/proc"]
        for path in [*binds, "/etc/resolv.conf", "/etc/hosts"]:
            inside = shlex.quote(f"{self.root}{path}")
            make = f"mkdir -p {inside}" if Path(path).is_dir() else f"mkdir -p $(dirname {inside}); touch {inside}"
            lines.append(f"{make}; mount --bind {shlex.quote(path)} {inside}")
        return "\n".join(lines)

    def chroot(self, command: list[str], env: dict[str, str]) -> str:
        """A shell command that runs ``command`` inside as the user of the moment."""
        said = [f"{key}={value}" for key, value in (self.env | env).items()]
        inner = f"cd {self.folder} && exec {shlex.join(command)}"
        return shlex.join(["chroot", f"--userspec={self.user}", str(self.root), "env", "-i", *said, "sh", "-c", inner])


def in_namespace(script: str, *more: str) -> int:
    """Run a shell script whose mounts vanish with it; ``more`` are options of unshare."""
    return subprocess.run(["unshare", "--mount", "--propagation", "private", *more, "sh", "-euc", script]).returncode


class Builder:
    """Builds stages below ``work``."""

    def __init__(self, base: Path, work: Path, args: dict[str, str], env: dict[str, str], binds: list[str]) -> None:
        self.base, self.work, self.args, self.env, self.binds = base, work, args, env, binds
        self.images: dict[str, Image] = {}
        self.ignore = Ignore((ROOT / ".dockerignore").read_text(encoding="utf-8"))

    def build(self, stage: Stage) -> None:
        """Make the stage's root and obey its instructions.

        Raises:
            SystemExit: a RUN line failed.
        """
        above = self.images.get(stage.image)
        root = self.work / stage.name
        subprocess.run(["cp", "-ax", "--reflink=auto", str(above.root if above else self.base), str(root)], check=True)
        if above is None and not (root / "usr/local/bin/python").exists():  # where the official image has it
            (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        image = self.images[stage.name] = Image(root, above)
        known: dict[str, str] = {}
        for step in stage.instructions:
            self._obey(stage, image, step, known)

    def _obey(self, stage: Stage, image: Image, step: Instruction, known: dict[str, str]) -> None:
        if step.name == "RUN":
            print(f"[{stage.name}] RUN {step.text}", flush=True)
            began = time.monotonic()
            command = image.chroot(["sh", "-c", step.text], self.env | known)
            if in_namespace(f"{image.mounts(self.binds)}\n{command}"):
                raise SystemExit(f"This RUN line of stage {stage.name} failed.")
            print(f"[{stage.name}] done in {time.monotonic() - began:.0f} s", flush=True)
        elif step.name == "COPY":
            self._copy(image, step)
        elif step.name == "ARG":
            name, _, default = step.text.partition("=")
            known[name] = self.args.get(name, default.strip('"'))
        elif step.name == "ENV":
            for pair in step.words():
                name, _, value = pair.partition("=")
                image.env[name] = value.replace("$PATH", image.env["PATH"])
        elif step.name == "USER":
            image.user = step.text
        elif step.name == "WORKDIR":
            image.folder = step.text
            (image.root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif step.name == "HEALTHCHECK":
            image.said["HEALTHCHECK"] = Instruction("CMD", step.text.partition("CMD ")[2]).words()
        elif step.name in ("CMD", "VOLUME"):
            image.said[step.name] = step.words()

    def _copy(self, image: Image, step: Instruction) -> None:
        origin = copy_source(step)
        *names, target = [word for word in step.text.split() if not word.startswith("--from")]
        if origin:
            source = self.images[origin].root / names[0].lstrip("/")
            subprocess.run(["cp", "-a", "--reflink=auto", str(source), f"{image.root}{target}"], check=True)
            return
        folder = image.root / image.folder.lstrip("/")
        for name in names:
            for file in [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")):
                path = file.relative_to(ROOT).as_posix()
                if file.is_file() and not self.ignore.drops(path):
                    place = folder / path if target != "./" else folder / file.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, place)

    def start(self, target: str) -> int:
        """Start the image as Kubernetes would, wait until it is healthy, end it; the exit code of the whole."""
        image = self.images[target]
        writable = []
        for volume in image.said["VOLUME"]:
            kept = self.work / "volumes" / volume.strip("/").replace("/", "-")
            kept.parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-a", f"{image.root}{volume}", str(kept)], check=True)
            writable.append(f"mount --bind {kept} {image.root}{volume}")
        script = "\n".join(
            [
                "ip link set lo up",
                f"mount --bind {image.root} {image.root}; mount -o remount,ro,bind {image.root}",
                f"mount -t tmpfs tmpfs {image.root}/tmp; chmod 1777 {image.root}/tmp",
                f"mount --rbind /dev {image.root}/dev; mount -t proc proc {image.root}/proc",
                *writable,
                f"{image.chroot(image.said['CMD'], {})} & server=$!",
                f"for i in $(seq {READY_SECONDS // 2}); do sleep 2; kill -0 $server || exit 1",
                f"if {image.chroot(image.said['HEALTHCHECK'], {})} 2>/dev/null; then healthy=1; break; fi; done",
                '[ "${healthy:-}" ] && echo "HEALTHCHECK passed"; sleep 20; kill -TERM $server',
                'code=0; wait $server || code=$?; echo "ended with $code"; exit $code',
            ]
        )
        return in_namespace(script, "--net", "--pid", "--fork", "--kill-child")


def main() -> int:
    """Build and start; 0 when everything held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", default="cpu")
    for option in ("--build-arg", "--env", "--bind"):
        parser.add_argument(option, action="append", default=[])
    given = parser.parse_args()
    args, env = (dict(pair.split("=", 1) for pair in pairs) for pairs in (given.build_arg, given.env))
    builder = Builder(given.base.resolve(), given.work.resolve(), args, env, given.bind)
    builder.work.mkdir(parents=True, exist_ok=True)
    for stage in needed(read_stages((ROOT / "Dockerfile").read_text(encoding="utf-8")), given.target):
        builder.build(stage)
    return builder.start(given.target)


if __name__ == "__main__":
    sys.exit(main())
