"""docker-py against the engine behind DOCKER_HOST: what programs written with it do all day.

Run by the end-to-end suite (tests/e2e/clients.rs). The image busybox is there. Prints each step; the first that fails ends
the run.
"""

import io
import sys
import tarfile
import threading
import time
import uuid

import docker
from docker.errors import APIError, ContainerError, ImageLoadError, ImageNotFound, NotFound

client = docker.from_env(timeout=60)
mark = "py-" + uuid.uuid4().hex[:8]
made = []


def container(command, **options):
    options.setdefault("name", mark + "-" + str(len(made)))
    options.setdefault("labels", {"docker-py": mark})
    made.append(options["name"])
    return client.containers.run("busybox", command, detach=True, **options)


def step_run_returns_output_and_raises_on_failure():
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    assert client.containers.run("busybox", ["sh", "-c", "echo err >&2"], remove=True, stderr=True) == b"err\n"
    try:
        client.containers.run("busybox", "sh -c 'echo no >&2; exit 3'", remove=True)
        raise AssertionError("no ContainerError")
    except ContainerError as error:
        assert error.exit_status == 3 and b"no" in error.stderr, error


def step_list_get_and_filters():
    one = container("sleep 1000")
    listed = client.containers.list(filters={"label": "docker-py=" + mark})
    assert [c.id for c in listed] == [one.id], listed
    assert client.containers.get(one.short_id).name == one.name
    assert one.status == "created" and client.containers.get(one.id).status == "running"
    assert client.containers.list(all=True, filters={"name": one.name, "status": "exited"}) == []
    try:
        client.containers.get("no-such-container")
        raise AssertionError("no NotFound")
    except NotFound as error:
        assert "No such container: no-such-container" in error.explanation, error


def step_logs_whole_streamed_and_followed():
    ended = container(["sh", "-c", "echo one; echo two >&2; echo three"])
    ended.wait()
    lines = ended.logs().decode().splitlines()
    assert sorted(lines) == ["one", "three", "two"], lines
    assert ended.logs(stdout=True, stderr=False) == b"one\nthree\n"
    assert ended.logs(stderr=True, stdout=False, timestamps=True).endswith(b"Z two\n")
    slow = container(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"])
    assert b"".join(slow.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert slow.logs(tail=1) == b"3\n"


def step_attach_and_its_socket():
    reader = container(["sh", "-c", "read line; echo got $line"], stdin_open=True)
    socket = reader.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    socket._sock.sendall(b"typed\n")
    received = b""
    while b"got typed" not in received:
        chunk = socket._sock.recv(4096)
        assert chunk, received
        received += chunk
    socket.close()
    assert reader.wait()["StatusCode"] == 0
    late = container(["sh", "-c", "sleep 0.5; echo later"])
    assert b"".join(late.attach(stream=True, logs=True)) == b"later\n"


def step_exec_run_in_its_forms():
    host = container("sleep 1000")
    code, output = host.exec_run("echo hello")
    assert (code, output) == (0, b"hello\n")
    code, (out, err) = host.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"out\n", b"err\n")
    code, stream = host.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True)
    assert b"".join(stream) == b"1\n2\n"
    assert host.exec_run("id -u", user="1000").output == b"1000\n"
    assert host.exec_run("pwd", workdir="/tmp", environment={"A": "1"}).output == b"/tmp\n"
    assert host.exec_run("stty size", tty=True).exit_code == 0
    low = client.api.exec_create(host.id, "sh -c 'exit 9'")
    client.api.exec_start(low["Id"])
    assert client.api.exec_inspect(low["Id"])["ExitCode"] == 9


def step_life_cycle():
    one = container("sleep 1000")
    one.pause()
    one.reload()
    assert one.status == "paused"
    one.unpause()
    one.restart(timeout=0)
    one.rename(one.name + "-new")
    made.append(one.name + "-new")
    one.reload()
    assert one.status == "running" and one.name.endswith("-new")
    assert one.top()["Titles"][0] == "UID"
    one.kill(signal="SIGKILL")
    assert one.wait(condition="not-running")["StatusCode"] == 137
    one.start()
    one.stop(timeout=0)
    one.reload()
    assert one.status == "exited" and one.attrs["State"]["ExitCode"] == 137
    one.remove()
    try:
        one.reload()
        raise AssertionError("no NotFound")
    except NotFound:
        pass
    busy = container("sleep 1000")
    try:
        busy.remove()
        raise AssertionError("no APIError")
    except APIError as error:
        assert error.status_code == 409, error
    busy.remove(force=True)


def step_wait_gives_the_code_and_times_out():
    assert container(["sh", "-c", "exit 7"]).wait()["StatusCode"] == 7
    try:
        container("sleep 1000").wait(timeout=0.5)
        raise AssertionError("no time-out")
    except Exception as error:
        assert "timed out" in str(error).lower() or "timeout" in type(error).__name__.lower(), error


def step_options_arrive():
    one = container(
        "sleep 1000", environment={"A": "1"}, hostname="box", mem_limit="64m", cap_drop=["ALL"], read_only=True,
        tmpfs={"/scratch": "size=1m"}, ports={"80/tcp": None}, working_dir="/tmp", user="1000", network_mode="bridge",
        extra_hosts={"some.host": "10.1.2.3"}, ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}, stop_signal="SIGTERM", init=True,
    )
    one.reload()
    config, host = one.attrs["Config"], one.attrs["HostConfig"]
    assert config["Hostname"] == "box" and "A=1" in config["Env"] and config["User"] == "1000"
    assert host["Memory"] == 64 << 20 and host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert int(one.ports["80/tcp"][0]["HostPort"]) > 0, one.ports
    assert b"10.1.2.3\tsome.host" in one.exec_run("cat /etc/hosts").output


def step_images():
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags and image.id.startswith("sha256:")
    assert image.tag(mark, tag="v1")
    assert mark + ":v1" in client.images.get(mark + ":v1").tags
    assert any(mark + ":v1" in i.tags for i in client.images.list(name=mark))
    assert len(image.history()) > 0
    client.images.remove(mark + ":v1")
    try:
        client.images.get(mark + ":v1")
        raise AssertionError("no ImageNotFound")
    except ImageNotFound:
        pass
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    client.api.import_image_from_data(archive.getvalue(), repository=mark, tag="imported")
    client.images.remove(mark + ":imported")
    try:
        client.images.load(b"this is no archive")
        raise AssertionError("no error")
    except (APIError, ImageLoadError):
        pass


def step_events():
    seen = []
    stream = client.events(decode=True, filters={"label": "docker-py=" + mark, "type": "container"})

    def read():
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    time.sleep(0.3)
    container("true").wait()
    client.containers.get(made[-1]).remove()
    thread.join(20)
    for action in ["create", "start", "die", "destroy"]:
        assert action in seen, seen
    past = client.events(since=int(time.time()) - 30, until=int(time.time()) + 0, decode=True, filters={"event": "die"})
    assert all(event["Action"] == "die" for event in past)


def step_prune_version_and_info():
    container("true").wait()
    pruned = client.containers.prune(filters={"label": "docker-py=" + mark})
    assert len(pruned["ContainersDeleted"]) >= 1, pruned
    assert client.ping() and client.version()["ApiVersion"]
    info = client.info()
    assert info["OSType"] == "linux" and info["ContainersRunning"] >= 0


def main():
    failed = None
    try:
        for name, step in list(globals().items()):
            if name.startswith("step_"):
                begin = time.time()
                step()
                print(f"ok {name[5:]} {time.time() - begin:.2f} s", flush=True)
    except BaseException as error:
        failed = error
        print(f"FAILED {name[5:]}: {type(error).__name__}: {error}", flush=True)
    for name in made:
        try:
            client.api.remove_container(name, force=True, v=True)
        except APIError:
            pass
    if failed is not None:
        raise failed


if __name__ == "__main__":
    sys.exit(main())
