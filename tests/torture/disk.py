"""What is on a disk when the power is cut, as far as POSIX says anything about it.

A write is there for certain once fsync of the file has returned; a name, a rename and a removal once fsync of the folder has. Everything else may be
there or not, and sector by sector: caches write in any order. A sector is whole, and a rename is not half done: what every file system for
nodes keeps. That is less than ext4 promises in practice, and deliberately so: what holds here holds on any of them.
"""
import pathlib

SECTOR = 512
# What becomes of what no fsync has reached. lost: nothing of it is there. kept: all of it, as after kill -9. ordered: names up to some
# moment, as file systems with a journal do it, and of the data any sectors. torn: any names, any sectors.
MODES = ("lost", "kept", "ordered", "torn")


class File:
    def __init__(self, disk, mode, name=""):
        self.disk, self.mode, self.name, self.size, self.durable, self.pending = disk, mode, name, 0, bytearray(), []

    def write(self, call, at, data):
        self.pending.append((call.end, at, data))
        self.size = max(self.size, at + len(data))
        self.disk.changed(call, self.name)

    def truncate(self, call, size):
        self.pending.append((call.end, size, None))
        self.size = size
        self.disk.changed(call, self.name)

    def sync(self, call):
        reached = [one for one in self.pending if one[0] <= call.begin]
        self.pending = [one for one in self.pending if one[0] > call.begin]
        for one in reached:
            put(self.durable, *one[1:])
        self.disk.changed(call, self.name)

    def after(self, mode, random):
        content = bytearray(self.durable)
        for _, at, data in self.pending if mode != "lost" else []:
            if mode == "kept":
                put(content, at, data)
            elif data is None:
                # The size is of the names' kind: it may be known before what lies there.
                if random.random() < 0.5:
                    put(content, at, None)
            else:
                for start in range(at - at % SECTOR, at + len(data), SECTOR):
                    if random.random() < 0.5:
                        first, last = max(start, at), min(start + SECTOR, at + len(data))
                        put(content, first, data[first - at:last - at])
        return bytes(content)


class Folder:
    def __init__(self, disk, mode):
        self.disk, self.mode, self.size, self.durable, self.names, self.pending = disk, mode, 0, {}, {}, []

    def sync(self, call):
        reached = [one for one in self.pending if one.end <= call.begin]
        self.pending = [one for one in self.pending if one.end > call.begin]
        for change in reached:
            for folder, name, node in change.steps:
                if folder is self:
                    enter(self.durable, name, node)
        for name in {step[1] for change in reached for step in change.steps} or {""}:
            self.disk.changed(call, name)


class Change:
    """Of names: all steps, or none."""

    def __init__(self, end, number, steps):
        self.end, self.number, self.steps = end, number, steps


class Disk:
    """A folder, as it has become by the calls that were applied."""

    def __init__(self, path, base=None):
        """`base`: what is on it already, as `after` gives it."""
        self.path, self.root, self.count, self.on_change = str(path), Folder(self, 0o700), 0, None
        for where, (mode, content) in sorted((base or {}).items()):
            if where:
                node = Folder(self, mode) if content is None else File(self, mode)
                if content is not None:
                    node.durable, node.size = bytearray(content), len(content)
                folder = self.find(where[:-1])
                folder.names[where[-1]] = folder.durable[where[-1]] = node

    def changed(self, call, name):
        if self.on_change:
            self.on_change(call, name)

    def find(self, where):
        node = self.root
        for part in where:
            node = node.names.get(part) if isinstance(node, Folder) else None
        return node

    def place_of(self, wanted, node=None, where=()):
        node = node or self.root
        if node is wanted:
            return list(where)
        for name, child in node.names.items():
            if isinstance(child, Folder) and (found := self.place_of(wanted, child, (*where, name))) is not None:
                return found
        return None

    def change(self, call, *steps):
        """Steps are (place, node or nothing)."""
        self.count += 1
        name = steps[-1][0][-1]
        steps = [(self.find(where[:-1]), where[-1], node) for where, node in steps]
        change = Change(call.end, self.count, steps)
        for folder, name, node in steps:
            enter(folder.names, name, node)
            if change not in folder.pending:
                folder.pending.append(change)
        self.changed(call, name)

    def create(self, call, where, mode):
        node = File(self, mode, where[-1])
        self.change(call, (where, node))
        return node

    def create_folder(self, call, where, mode):
        self.change(call, (where, Folder(self, mode)))

    def unlink(self, call, where):
        self.change(call, (where, None))

    def rename(self, call, old, new):
        self.change(call, (old, None), (new, self.find(old)))

    def link(self, call, old, new):
        self.change(call, (new, self.find(old)))

    def sync(self, call):
        for node in self.nodes():
            node.sync(call)

    def nodes(self):
        found, todo = [], [self.root]
        while todo:
            node = todo.pop()
            if node in found:
                continue
            found.append(node)
            if isinstance(node, Folder):
                todo += [*node.names.values(), *node.durable.values()]
        return found

    def after(self, mode, random):
        """What is there after a cut: each place with its mode and its content, which is nothing for a folder."""
        changes = {change.number: change for node in self.nodes() if isinstance(node, Folder) for change in node.pending}
        changes = [change for _, change in sorted(changes.items())]
        upto = {"lost": 0, "ordered": random.randint(0, len(changes))}.get(mode, len(changes))
        chance = random.choice((0.2, 0.5, 0.8))
        kept = [change for change in changes[:upto] if mode != "torn" or random.random() < chance]
        names = {}
        for change in kept:
            for folder, name, node in change.steps:
                # Of a change of two folders one may have had its fsync.
                enter(names.setdefault(id(folder), dict(folder.durable)), name, node)
        found, todo = {}, [((), self.root)]
        while todo:
            where, node = todo.pop()
            if isinstance(node, File):
                found[where] = (node.mode, node.after(mode, random))
                continue
            found[where] = (node.mode, None)
            todo += [((*where, name), child) for name, child in names.get(id(node), node.durable).items()]
        return found


def enter(names, name, node):
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def put(content, at, data):
    """Data from there on, or the size if there is none."""
    end = at if data is None else at + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data


def write_out(found, target):
    """Makes it a folder again."""
    target = pathlib.Path(target)
    for where, (mode, content) in sorted(found.items()):
        path = target.joinpath(*where)
        if content is None:
            path.mkdir(exist_ok=not where, parents=not where)
        else:
            path.write_bytes(content)
        path.chmod(mode)
