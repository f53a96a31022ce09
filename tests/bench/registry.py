"""A docker-registry on loopback, with storage that was written without it: pushing thousands of images takes minutes."""
import socket
import subprocess
import time

from layouts import names_of


class Registry:
    """Serves the largest of `counts` sets of small images, of which the others are a part."""

    def __init__(self, inputs, work, counts):
        self.work, largest = work, max(counts)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        config = work / "registry.yml"
        config.write_text(f"version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n"
                          f"    rootdirectory: {inputs.small_storage(largest)}\nhttp:\n  addr: {self.address}\n")
        self.names = [name.partition("/")[2] for name in names_of(inputs.small_layout(largest))]
        self.process = subprocess.Popen(["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.await_answer()

    def await_answer(self):
        host, port = self.address.split(":")
        for _ in range(600):
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError("docker-registry does not answer")

    def list(self, count):
        """A file with the names of the first `count` images."""
        path = self.work / f"images-{count}.txt"
        path.write_text("".join(f"{self.address}/{name}\n" for name in self.names[:count]))
        return path

    def stop(self):
        self.process.terminate()
        self.process.wait()
