# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""ovs-vswitchd with an emulated NIC in the path of every packet.

The ports are functions of the NIC, p3 its physical function, each with a dummy
device as its link.  A packet enters by the link, so that the NIC sees it ahead
of Open vSwitch: either it acts alone, or it passes the packet on, to be
forwarded by software.  As what comes out is compared with the model in either
case, so are the NIC and software with each other.

The NIC and the PMD thread that polls it run in threads of their own.  The
NIC's counters tell when a packet is through."""

import random
import re
import time

from .daemon import CommandError, Daemon, ovs_map, ovs_set
from .model import FIN, RST, SYN

NIC = 'nic0'
FUNCTIONS = {'p1': 'vf0', 'p2': 'vf1', 'p3': 'pf0'}

# What there is to choose from with --nic-faults, for each step: columns of the
# NIC, faults, and how long to wait, in ms.  The model knows nothing of it.
TABLE_SIZES = (1, 2, 4, 65536)
CAPABILITIES = ('masked', 'vlan', 'arp', 'ipv4', 'ipv6', 'tcp', 'tcp-flags',
                'udp', 'sctp', 'icmp', 'frag', 'set-eth', 'set-ipv4',
                'set-ipv6', 'set-l4', 'multi-output')
FAULTS = ('table-full', 'put-fail', 'ignore-list vf0', 'forge-list vf0',
          'forge-list vf1', 'stats-lag 10')

# The same for what loses frames: faults, what ends them, if that has to be
# said, and how long it takes to be over, in ms, or a bit less.
BREAKDOWNS = ((['reset'], [], 150), (['thread-dead'], [], 1200),
              (['link-down vf0'], ['link-up vf0'], 300),
              (['link-down pf0', 'link-down vf1'],
               ['link-up pf0', 'link-up vf1'], 300),
              (['vanish vf1'], ['appear vf1'], 1200))

# A flow may be replaced by another one after that long, in ms, and a bit less.
RESIDENCE_MS = 1100

# How long something may take, in seconds, on a machine that is busy.
TIMEOUT = 30

# The queue of a dummy device takes some more.
MAX_BURST = 90


def adapt_show(reply):
    """simnic/show: how many threads are busy with frames, and a dictionary of
    dictionaries of counters, by the function's name."""
    nic, = reply
    return nic['threads_busy'], {
        name: function['statistics']
        for name, function in nic['functions'].items()}


def drops(counters):
    """What a function dropped, by direction and reason."""
    return {name: value for name, value in counters.items()
            if '_dropped_' in name}


def is_through(counters):
    """Whether neither the NIC nor Open vSwitch has a frame of the function
    left to forward."""
    return not counters['in_host'] and counters['from_link'] == (
        counters['hits'] + counters['misses_host'] + counters['misses_vm']
        + counters['synthetic']
        + sum(value for name, value in drops(counters).items()
              if name.startswith('rx_')))


def for_nic(case):
    """A copy of 'case' with more of what puts a NIC to the test: packets are
    sent more often, so that there are flows in the NIC, and what a rule does
    changes while there are."""
    rng = random.Random(case['seed'])
    policy = case['policy']
    steps = []
    for step in case['steps']:
        changes = step.get('packet') or step.get('set') or {}
        if 'times' in step and not (
                changes.get('flags', 0) & (SYN | FIN | RST)
                or changes.get('frag')):
            step = dict(step, times=step['times'] + rng.randrange(4))
            if rng.random() < .05:
                step['burst'] = rng.randrange(2, MAX_BURST)
        steps.append(step)
        policy = step.get('policy', policy)
        if 'times' in step and rng.random() < .1:
            policy = other_action(rng, policy)
            steps += [{'id': 'nic-policy-%s' % step['id'], 'op': 'policy',
                       'policy': policy},
                      {'id': 'nic-again-%s' % step['id'], 'op': 'again',
                       'of': step['id'], 'set': {}, 'times': 2}]
    return dict(case, steps=steps)


def other_action(rng, policy):
    """A copy of 'policy' in which some rules have a header action more, or
    another one instead of it."""
    rules = dict(policy['rules'])
    for name in rng.sample(sorted(rules), (len(rules) + 1) // 2):
        verdict = re.sub(r',?(set_dscp\([0-9]+\)|dec_ttl)', '',
                         rules[name]['actions']).lstrip(',')
        action = rng.choice(('dec_ttl', 'set_dscp(%d)' % rng.randrange(64)))
        rules[name] = dict(rules[name], actions=','.join(
            text for text in (action, verdict) if text))
    return dict(policy, rules=rules)


class NicDaemon(Daemon):
    """ovs-vswitchd with an emulated NIC, as an engine for driver.Runner."""

    # Not devices of type "simnic".
    DUMMY_LEVEL = 'system'

    def __init__(self, options):
        self.row = {'flow_table_size': options.nic_table_size,
                    'miss_path': 'host', 'options': ovs_map([]),
                    'capabilities': ovs_set([])}
        super().__init__(options)

    def start(self):
        self.current_row = self.row
        super().start()
        _, self.functions = self.show()

    def arguments(self):
        return ['other_config:hw-offload=true',
                'other_config:pmd-sleep-max=1', '--',
                'create', 'NIC', 'name=' + NIC, 'type=simnic',
                'miss_path=host',
                'flow_table_size=%d' % self.options.nic_table_size]

    def interface_arguments(self, port, pcap):
        return ['type=simnic', 'options:nic=' + NIC,
                'options:function=' + FUNCTIONS[port],
                'options:netdev=' + self.device(port), 'options:link=dummy',
                'options:link-tx_pcap=' + pcap]

    def device(self, port):
        return port + '-link'

    # Packets.

    def show(self):
        """What simnic/show says."""
        return adapt_show(self.json_ctl.command('simnic/show', NIC))

    def inject_burst(self, port, frames):
        """Has 'port' receive 'frames' one after the other, and returns what
        comes out."""
        self.json_ctl.commands([
            ('netdev-dummy/receive', [self.device(port), frame.hex()])
            for frame in frames])
        return self.collect(port, None, len(frames))

    def collect(self, port, _expected, n=1):
        name = FUNCTIONS[port]
        old = self.functions
        deadline = time.monotonic() + TIMEOUT
        before = None
        pause = 1e-4
        while True:
            # Counters change while they are read, so they must stay the same.
            busy, new = self.show()
            if (not busy and new == before
                    and new[name]['from_link'] == old[name]['from_link'] + n
                    and all(map(is_through, new.values()))):
                break
            before = new
            if time.monotonic() > deadline:
                raise CommandError('packet to %s is not through: %s, was %s'
                                   % (name, new, old))
            # To show the NIC takes its mutex.  Leave it to the PMD thread,
            # too, which may have a flow to put before the packet is through.
            if pause > 5e-4:
                time.sleep(min(pause, .01))
            pause *= 1.5
        self.functions = new
        frames = self.read_captures()
        self.check_counters(frames, old, new, n)
        return frames

    def check_counters(self, frames, old, new, n):
        """Checks that counters tell of 'frames', and counts the 'n' packets
        that they come of."""
        def increase(counter):
            return sum(new[name][counter] - old[name][counter] for name in new)

        lost = {name: drops(new[name]) for name in new
                if drops(new[name]) != drops(old[name])}
        if len(frames) != increase('to_link') or lost:
            raise CommandError('%d frames came out, counted: %d, dropped: %s'
                               % (len(frames), increase('to_link'),
                                  lost or 'none'))
        alone = increase('hits')
        self.counts['held'] += increase('held')
        self.counts['software'] += n - alone
        if frames:
            self.counts['alone'] += alone
        else:
            self.counts['alone_dropped'] += alone

    def report(self):
        return ['%(alone)d packets forwarded by the NIC alone, '
                '%(alone_dropped)d dropped by it alone, %(software)d by '
                'software; %(held)d held back; %(disturbances)d disturbances'
                % self.counts]

    # Disturbances.

    def begin(self, policy):
        self.calm()
        # It may have ended while a packet of another case was on its way.
        _, self.functions = self.show()
        super().begin(policy)

    def disturb(self, seed, step, wait):
        rng = random.Random('%s %s' % (seed, step))
        if self.options.nic_faults:
            self.configure(self.random_row(rng))
            self.ctl.command('simnic/fault', NIC, 'none')
            if rng.random() < .15:
                self.fault(rng.choice(FAULTS))
            if rng.random() < .05:
                self.break_down(*rng.choice(BREAKDOWNS), wait)
        elif self.options.nic_table_size > 64 or seed is None:
            return
        if rng.random() < .15:
            wait(RESIDENCE_MS)

    def break_down(self, faults, ends, ms, wait):
        """Has frames get lost for a while."""
        for fault in faults:
            self.fault(fault)
        if 'thread-dead' in faults:
            # The time until it is started again is counted from when the main
            # thread sees it dead, which it does ahead of the second command.
            self.await_dead(True)
            self.ctl.command('version')
            self.ctl.command('version')
        wait(ms)
        self.await_dead(False)
        if ends:
            for end in ends:
                self.ctl.command('simnic/fault', NIC, *end.split())
            wait(ms)

    def await_dead(self, dead):
        """Waits until a thread of the NIC is dead, or none is."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            nic, = self.json_ctl.command('simnic/show', NIC)
            if bool(nic['threads_dead']) == dead:
                return
            if time.monotonic() > deadline:
                raise CommandError('thread-dead: %s' % nic)

    def wait(self, ms):
        # Otherwise what the NIC has forwarded may be known too late.
        self.ctl.command('simnic/fault', NIC, 'stats-lag', '0')
        super().wait(ms)

    def set_policy(self, policy):
        # No waiting afterward: once a change is reported in force, the NIC
        # forwards nothing as the old policy says.
        self.ctl.command('simnic/fault', NIC, 'stats-lag', '0')
        self.settle()
        self.write_policy(policy, [])

    def calm(self):
        if self.options.nic_faults:
            self.configure(self.row)
            self.ctl.command('simnic/fault', NIC, 'none')

    def fault(self, fault):
        """Has something fail."""
        self.counts['disturbances'] += 1
        self.ctl.command('simnic/fault', NIC, *fault.split())

    def random_row(self, rng):
        """Columns of the NIC, often those that it has otherwise."""
        row = dict(self.row)
        if rng.random() < .2:
            row['flow_table_size'] = rng.choice(TABLE_SIZES)
        if rng.random() < .2:
            row['miss_path'] = 'vm'
        if rng.random() < .2:
            row['options'] = ovs_map([
                ('driver-list', rng.choice(('false', 'true'))),
                ('threads', rng.choice('123'))])
        if rng.random() < .1:
            row['capabilities'] = ovs_set(
                rng.sample(CAPABILITIES, rng.randrange(1, 16)))
        return row

    def configure(self, row):
        """Gives the NIC the columns 'row', unless it has them already."""
        if row != self.current_row:
            self.counts['disturbances'] += 1
            self.ovsdb.commit([{'op': 'update', 'table': 'NIC', 'row': row,
                                'where': [['name', '==', NIC]]}])
            self.current_row = row
