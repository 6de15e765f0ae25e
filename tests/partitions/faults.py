"""What goes wrong with links, servers, their clocks and the database, and how it is over."""
import signal

from rig import until

# Seconds beside the others. The least is within what SVIDs are backdated by; the largest is longer than they live.
OFFSETS = (3, -3, 30, -30, 300, -300)


class Faults:
    """Of `Rounds`, which has the state."""

    def cut(self, ends, silent):
        self.site.network.links[ends].cut(silent)
        self.note("link", ends=ends, up=False, silent=silent)

    def lose_server(self, name, how):
        self.note("server", server=name, live=False, how=how)
        server = self.site.servers[name]
        if how == "stop":
            server.hang()
        else:
            server.end(signal.SIGKILL if how == "kill" else signal.SIGTERM)

    def kinds(self):
        """What may go wrong in this run, as often as it is to."""
        kinds = ["links"] * 6 + ["server"] * 3 + ["database"] * (3 if self.site.database else 0) + ["clock", "nothing"]
        kinds += ["replica"] if self.site.replica else []
        return [one for one in kinds if one in (self.only or kinds)] or kinds

    def see_clock(self):
        """A server whose clock was set shows that: it writes its log by it. Without that nothing would be tried by setting it."""
        for name in self.running():
            server = self.site.servers[name]
            if server.offset:
                offset = server.offset
                self.note("clock shown", server=name, offset=offset, shown=server.shows(lambda name=name: self.token(name)))

    def fault(self):
        """One thing that goes wrong, in words, and whether the database is what went wrong."""
        site, choose = self.site, self.random.choice
        # No replica beside a server that another fault has left out of time, or none.
        kinds = [one for one in self.kinds() if one != "replica" or len(self.in_time()) == len(site.servers)]
        kind = choose(kinds or self.kinds())
        if kind == "links":
            whole = [ends for ends, link in site.network.links.items() if not link.cut_by and "db2" not in ends]
            # One that is in use, half of the time: two in three are not.
            chosen = self.random.sample(whole, min(len(whole), choose([1, 1, 2, 3])))
            if self.random.random() < 0.5:
                chosen = [ends for ends in whole if ends == self.used(choose(list(self.site.agents.values())))] or chosen
            silent = self.random.random() < 0.6
            for ends in chosen:
                self.cut(ends, silent)
                # Where the database is, its replica may be too: connecting then waits for both.
                if ends[0] == "db" and self.random.random() < 0.5:
                    self.cut(("db2", ends[1]), silent)
            return ("silent cut" if silent else "cut") + f" of {', '.join('-'.join(ends) for ends in chosen)}", None
        if kind == "server" and self.running():
            name, how = choose(self.running()), choose(["kill", "stop", "end"])
            used = self.used(choose(list(self.site.agents.values())))
            name = used[1] if used and used[1] in self.running() else name
            self.lose_server(name, how)
            return f"{how} of {name}", None
        if kind == "database":
            what = choose(["kill", "hang", "read-only", "full", "full log", "restart"])
            return f"database {what}", what
        if kind == "replica":
            return "replica", choose(["replica kept", "replica lost"])
        if kind == "clock" and self.in_time():
            name, offset = choose(self.in_time()), choose(OFFSETS)
            site.servers[name].set_clock(offset)
            self.note("clock", server=name, offset=offset)
            return f"clock of {name} {offset:+d} s", None
        return "nothing", None

    def harm_database(self, what):
        database = self.site.database
        self.note("database", works=False, what=what)
        {"kill": database.kill, "hang": database.hang, "read-only": lambda: database.read_only(True), "full": lambda: database.fill(log=False),
         "full log": lambda: database.fill(log=True), "restart": database.stop}[what]()

    def mend_database(self, what):
        database = self.site.database
        if what == "hang":
            database.go_on()
        elif what == "read-only":
            database.read_only(False)
        elif what.startswith("full"):
            database.make_room()
        if not database.alive():
            database.start()
        until("PostgreSQL answers again", database.answers, 30)
        self.note("database", works=True)

    def heal(self):
        for name, server in self.site.servers.items():
            if server.offset:
                server.set_clock(0)
                self.note("clock", server=name, offset=0)
        for ends, link in self.site.network.links.items():
            if link.cut_by:
                link.restore()
                self.note("link", ends=ends, up=True)
        for name, server in self.site.servers.items():
            if server.stopped:
                server.go_on()
            elif not server.alive():
                server.start()
            else:
                continue
            self.note("server", server=name, live=True)
