# Last, when the shared region has gone: the README's commands, typed by hand in their order: a region, a tunnel that is UP with a device configured from what the command
# line prints, traffic, and nothing left at the end.
import os
import re
import subprocess

import region

TOP = region.TOP


def commands():
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as text:
        section = re.search(r"^## A region by hand\n(.*?)^## ", text.read(), re.S | re.M).group(1)
    blocks = "".join(re.findall(r"^```\n(.*?)^```\n", section, re.S | re.M))
    return re.sub(r"^(# \d)", r"sleep 2\n\1", blocks, flags=re.M)  # nobody types faster


def test_readme(tmp_path):
    os.symlink(os.path.join(TOP, "deploy"), tmp_path / "deploy")
    script = f"set -eu\nmake() {{ command make -s -C {TOP} \"$@\"; }}\n" + commands()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TWINSPAN_", "MAKE", "MFLAGS"))}
    if "TWINSPAN_BUILD" in os.environ:  # the binaries under test are elsewhere
        environment["TWINSPAN_BUILD"] = os.environ["TWINSPAN_BUILD"]
        script = script.replace("command make", f"command make B={os.environ['TWINSPAN_BUILD']}")
    try:
        done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=300, check=False)
        assert done.returncode == 0, done.stdout
        assert "UP" in done.stdout and "Established" in done.stdout and "HIGHLY_AVAILABLE" in done.stdout, done.stdout
        assert re.search(r"192\.168\.0\.0/16.*PROPAGATED", done.stdout), done.stdout
        assert " 0% packet loss" in done.stdout, done.stdout
        # Step 9: the port is down, traffic goes on by the other tunnel, the list and the connection say what is so; then it is UP again.
        before, after = done.stdout.split("25 packets transmitted", 1)
        assert before.count("bytes from 192.168.1.10") >= 3 + 10, done.stdout
        down = after[:after.index("NOT_HIGHLY_AVAILABLE")]
        assert len(re.findall(r"^tun-\S+ .* UP .*", down, re.M)) >= 1 and re.search(r"^tun-\S+ .* (CONNECTING|DOWN) ", down, re.M), done.stdout
        assert re.search(r"^runningStatus +UP", after[len(down):], re.M), done.stdout
        assert region.leftovers() == {"processes": [], "namespaces": [], "files": []}, done.stdout
        print(done.stdout)
    finally:
        region.keep_logs(os.path.join(TOP, "build", "test", "readme-log"))
        region.down(lambda _: None)
