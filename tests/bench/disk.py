"""A filesystem of its own: ext4 with a journal on a loop device, empty at first.

What is timed makes and removes tens of thousands of files. On an ext4 without a journal that slows down what comes after: the kernel
does not give out the number of a file that was removed in the last minutes, and looks at each of them for every file that is made.
"""
import shutil
import subprocess


class Disk:
    """Mounted at `path`, of `size` bytes; of the disk that `work` is on it takes what is written to it."""

    def __init__(self, work, name, size, inode_every=16384):
        self.image, self.path = work / f"{name}.img", work / name
        with open(self.image, "wb") as image:
            image.truncate(size)
        self.path.mkdir()
        self.device = run("losetup", "--show", "-f", "--direct-io=on", str(self.image))
        run("mkfs.ext4", "-q", "-i", str(inode_every), "-E", "lazy_itable_init=0,lazy_journal_init=0", self.device)
        run("mount", self.device, str(self.path))

    def close(self):
        run("umount", str(self.path))
        run("losetup", "-d", self.device)
        self.path.rmdir()
        self.image.unlink()


def most_of(work):
    """A disk that takes most of what is free where `work` is."""
    return Disk(work, "disk", shutil.disk_usage(work).free * 3 // 4 // 4096 * 4096, inode_every=65536)


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
