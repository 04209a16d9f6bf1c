#!/usr/bin/env python3
#
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

"""Compares ovs-vswitchd with the model, on random policies and packets.

Starts ovsdb-server and ovs-vswitchd of a build, with a layered bridge on the
dummy datapath, simulated time, the VM ports p1 and p2, and the port p3 that
stands for the network.  Each case has its policy written in one transaction,
its packets sent through the datapath, and what came out compared with what
the model lets come out; so are layered/trace ahead of each packet,
layered/flows and layered/rules at the end, and the rows that are in error.
With --nic, an emulated NIC sees each packet first: see nic.py.

The last line of the output is "N sequences, N packets, N disagreements".  The
exit status is 0 if there is no disagreement, 1 if there is, 2 if the driver
was called wrongly.  A case with a disagreement is written to a file that
--replay takes, made smaller first with --shrink.

Any number of drivers may run at once.  Run each in a network namespace of its
own, if other instances of ovs-vswitchd should not be disturbed:
tests/private-netns tests/oracle/driver.py ...
"""

import argparse
import collections
import json
import os
import signal
import struct
import sys
import time

if __package__ in (None, ''):
    sys.path.insert(0, os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    __package__ = 'oracle'

from oracle import daemon, generate, model, nic  # noqa: E402
from oracle.daemon import CommandError, DatabaseError, Gone  # noqa: E402
from oracle.model import Packet  # noqa: E402
from oracle.wire import Frame, encode  # noqa: E402

#
# Comparing.
#

class Disagreement(Exception):
    """The engine and the model differ."""

    def __init__(self, what, step, text):
        super().__init__('%s at step %s: %s' % (what, step, text))
        self.what = what
        self.step = step
        self.text = text


def invalid_rows(policy):
    """The names of the rules and groups that are in error, as far as they are
    in use."""
    names = set()
    for name, rule in policy['rules'].items():
        try:
            model.Rule(name, rule, policy['sets'])
        except model.PolicyError:
            names.add(name)
    for name, group in policy['groups'].items():
        try:
            model.Condition(group.get('match', ''), policy['sets'])
        except model.PolicyError:
            names.add(name)
    return names


class Runner:
    """Runs cases on an engine and on the model.

    An engine has the methods of Daemon from begin() on.  Counts packets, and
    in 'open_ends' the cases that could not be run to the end because what
    comes next is not specified."""

    MARGIN_MS = 1000

    def __init__(self, engine, check_errors=True):
        self.engine = engine
        self.check_errors = check_errors
        self.switch = None
        self.n_packets = 0
        self.n_emitted = 0
        self.n_cached = 0
        self.open_ends = collections.Counter()

    def run(self, case):
        """Runs a case.  Raises Disagreement."""
        self.has_fragments = self.switch and any(
            port.fragments for port in self.switch.ports.values())
        self.switch = model.Switch(generate.VM_PORTS, generate.MACS,
                                   generate.FLOOD)
        self.history = generate.History()
        self.now = 0
        self.knows_rules = True
        self.step = 'begin'
        try:
            self._run_steps(case)
            self.step = 'end'
            self.engine.calm()
            self._compare_flows()
            self._compare_tuples()
            if self.knows_rules:
                self._compare_rules()
        except model.Unspecified as reason:
            self.open_ends[str(reason)] += 1
        except (CommandError, DatabaseError) as error:
            raise Disagreement('error', self.step, str(error)) from None
        except Gone as error:
            text = '%s; %s; files in %s' % (error, self.engine.obituary(),
                                            self.engine.rundir)
            self.engine.restart()
            raise Disagreement('crash', self.step, text) from None

    def _run_steps(self, case):
        if self.has_fragments:
            # Those of the case before.
            self.engine.wait((model.FRAGMENT_TIMEOUT + 1) * model.MS)
        self.engine.begin(case['policy'])
        # Here too.
        self._compare_tuples()
        self.switch.set_policy(case['policy'], self.now)
        self._compare_errors(case['policy'])
        for step in case['steps']:
            self.step = step['id']
            self.engine.disturb(case.get('seed'), step['id'], self._wait)
            if step['op'] == 'wait':
                self._wait(step['ms'])
            elif step['op'] == 'policy':
                self.engine.set_policy(step['policy'])
                tuples = set(self.switch.pool)
                self._change_policy(step['policy'])
                if tuples - set(self.switch.pool):
                    # What times out now because timeouts have become shorter
                    # is noticed within a second.
                    self._wait(self.MARGIN_MS + 1)
                self._await_tuples(tuples)
                self._compare_errors(step['policy'])
            else:
                resolved = self.history.resolve(step)
                if resolved and not self._send_burst(step, *resolved):
                    for i in range(step.get('times', 1)):
                        self._send(step, *resolved, i == 0)

    def _wait(self, ms):
        # Which of two things that happen at the same time is first is not
        # worth knowing.
        while self.switch.near_deadline(self.now + ms, self.MARGIN_MS):
            ms += 700
        self.engine.wait(ms)
        self.now += ms
        tuples = set(self.switch.pool)
        self.switch.expire(self.now)
        self._await_tuples(tuples)

    def _await_tuples(self, before):
        """Waits until the tuples that were in use 'before' and are so no more
        may be used by others."""
        if before - set(self.switch.pool):
            self._compare_tuples()

    def _compare_tuples(self):
        expected = len(self.switch.pool)
        seen = self.engine.await_tuples(expected)
        if seen not in (None, expected):
            raise Disagreement('tuples', self.step, (
                '%d translated tuples in use, expected %d' % (seen,
                                                              expected)))

    def _compare_errors(self, policy):
        if not self.check_errors:
            return
        expected = invalid_rows(policy)
        deadline = time.monotonic() + 2
        while True:
            seen = self.engine.rows_in_error()
            if seen is None or seen == expected:
                return
            if time.monotonic() > deadline:
                raise Disagreement('errors', self.step, (
                    'in error: %s, expected %s'
                    % (sorted(seen), sorted(expected))))
            time.sleep(.01)

    # Packets.

    def _send(self, step, port, packet, first):
        self.switch.expire(self.now)
        chooser = model.Chooser()
        guess = self.switch.receive(port, packet, self.now, chooser)
        traced = (self._what_to_trace(port, packet, guess,
                                      bool(chooser.taken)
                                      or chooser.contended) if first else [])
        frames, traces = self.engine.inject(
            port, encode(packet), len(guess.emitted) + len(guess.answers),
            [what for what, _ in traced])
        self.n_cached += not first
        result = self._explain(port, packet, frames)
        self._compare_traces(traced, traces, result)
        self._take(step, port, packet, result)

    def _send_burst(self, step, port, packet):
        """If 'step' is for a burst, and if it is clear what comes of each of
        its packets, sends them without waiting in between, each with its
        number in it, so that their order is seen.  Returns true if so."""
        n = step.get('burst', 0)
        if not n or packet.frag or packet.quoted is not None or (
                packet.proto not in (model.TCP, model.UDP)
                or not packet.is_ip()):
            return False
        self.switch.expire(self.now)
        chooser = model.Chooser()
        guess = self.switch.receive(port, packet, self.now, chooser)
        if chooser.taken or chooser.contended or guess.open_end or any(
                outcome.overtakes for _, _, outcome in guess.outcomes):
            return False
        packets = [packet.copy(payload=struct.pack('!H', i) + packet.payload)
                   for i in range(n)]
        frames = collections.defaultdict(list)
        for frame in self.engine.inject_burst(port, list(map(encode,
                                                             packets))):
            frames[frame.port].append(frame)
        for i, packet in enumerate(packets):
            share = []
            for out in frames.values():
                end = -(-len(out) * (i + 1) // n)
                share += out[-(-len(out) * i // n):end]
            result = self._explain(port, packet, share)
            self._take(step, port, packet, result)
        return True

    def _take(self, step, port, packet, result):
        """Lets 'result' be what has come of 'packet'."""
        self.n_packets += 1
        tuples = set(self.switch.pool)
        result.commit()
        if any(outcome.overtakes for _, _, outcome in result.outcomes):
            self.engine.settle()
        self._await_tuples(tuples)
        self.n_emitted += bool(result.emitted)
        self.history.note(step, port, packet, result.emitted)
        if result.open_end:
            raise model.Unspecified(result.open_end)

    def _explain(self, port, packet, frames):
        """The result that the model allows and that 'frames' came of."""
        hints = [frame.packet for frame in frames if frame.packet]
        matching = self._matching(port, packet, frames, hints)
        if len(matching) > 1:
            # What was not seen in a packet is to be seen in the flows.
            hints += [hint for name in self.switch.ports
                      for hint in self._listed_ports(self.engine.flows(name))]
            matching = self._tell_apart(
                self._matching(port, packet, frames, hints))
        if len({str([outcome.uses for _, _, outcome in result.outcomes])
                for result in matching}) > 1:
            self.knows_rules = False
        return matching[0]

    @staticmethod
    def _listed_ports(flows):
        """The ports in 'flows' as hints for a Chooser."""
        return [Packet(sport=item[d][3], dport=item[d][4])
                for item in flows or [] for d in model.OTHER]

    def _matching(self, port, packet, frames, hints):
        """The results that 'frames' may have come of, at least one."""
        unspecified = []
        problems = []

        def run(chooser):
            try:
                result = self.switch.receive(port, packet, self.now, chooser)
            except model.Unspecified as reason:
                unspecified.append(reason)
                return None
            if chooser.has_more and not result.emitted:
                # A port that is not seen may meet the conditions of others.
                self.knows_rules = False
            return result

        matching = []
        for result in model.explore(run, hints):
            if result is None:
                continue
            problem = self._mismatch(result, frames)
            if problem is None:
                matching.append(result)
            else:
                problems.append(problem)
                if any(outcome.hidden for _, _, outcome in result.outcomes):
                    unspecified.append(model.Unspecified(
                        'a choice that cannot be seen'))
        if not matching:
            if unspecified:
                raise unspecified[0]
            raise Disagreement('packet', self.step, 'sent %s to %s, %s' % (
                packet, port, problems[0]))
        return matching

    @staticmethod
    def _mismatch(result, frames):
        """Why 'frames' did not come of 'result', or None."""
        rest = list(frames)
        wanted = ([(p, x, Frame.is_packet) for p, x in result.emitted]
                  + [(p, x, Frame.is_answer) for p, x in result.answers])
        missing = []
        for port, packet, matches in wanted:
            frame = next((f for f in rest if matches(f, port, packet)), None)
            if frame:
                rest.remove(frame)
            elif matches is Frame.is_packet or not result.open_end:
                missing.append('%s: %s' % (port, packet))
        if result.open_end:
            # A refusal may also have come to something else.
            rest = [frame for frame in rest if frame.packet is None]
        if not missing and not rest:
            return None
        verdicts = ['%s %s: %s %s %s %s' % (
            port, direction, outcome.verdict, outcome.reason or '',
            outcome.layer or '', outcome.layers)
            for port, direction, outcome in result.outcomes]
        return 'expected [%s] (%s), seen [%s]' % (
            '; '.join(missing), '; '.join(verdicts),
            '; '.join(map(str, rest)))

    def _tell_apart(self, results):
        """Leaves out of 'results' those that the connections that the engine
        has now rule out.  What differs in nothing else does not matter."""
        listed = {}
        left = []
        for result in results:
            possible = True
            for name, _, outcome in result.outcomes:
                if outcome.connection is None:
                    continue
                if name not in listed:
                    listed[name] = self.engine.flows(name)
                if listed[name] is not None:
                    possible &= self._is_listed(outcome.connection,
                                                listed[name])
            if possible:
                left.append(result)
        if not left:
            raise Disagreement('flows', self.step, (
                'no allowed translation is among %s' % listed))
        outcomes = [[outcome for _, _, outcome in result.outcomes]
                    for result in left]
        self._check_same([
            (outcome.port.name, outcome.verdict, outcome.connection
             and self._visible(outcome.connection.flows))
            for outcome in same] for same in outcomes)
        for same in zip(*outcomes):
            if same[0].connection:
                same[0].connection.alternatives = self._alternatives(
                    [outcome.connection.flows for outcome in same])
                same[0].lessons = dict(set.intersection(
                    *(set(outcome.lessons.items()) for outcome in same)))
        return left

    @staticmethod
    def _visible(flows):
        """What can be seen of layer flows."""
        return [(flow.layer, flow.before, flow.after)
                for flow in flows.values()]

    @staticmethod
    def _alternatives(choices):
        """The layer flows in 'choices' that are others than the first."""
        different = {str([(t.kind, t.before, t.address, t.port)
                          for flow in flows.values()
                          for t in flow.translations]): flows
                     for flows in reversed(choices)}
        return [flows for flows in different.values()
                if flows is not choices[0]]

    @staticmethod
    def _check_same(descriptions):
        if len({str(description) for description in descriptions}) > 1:
            raise model.Unspecified('a choice that cannot be seen')

    @staticmethod
    def _is_listed(connection, listed, reply_key=None, flows=None):
        """Whether layer flows of 'connection' are among those 'listed'."""
        flows = connection.flows.values() if flows is None else flows
        reply_key = reply_key or connection.reply_key
        keys = {connection.direction: connection.key,
                model.OTHER[connection.direction]: reply_key}
        for flow in flows:
            pair = (keys if not daemon.FLOW_TUPLES_OF_LAYER else
                    {d: flow.key_in(d) for d in keys})
            if not any(item['layer'] == flow.layer
                       and all(item[d] == pair[d] for d in pair)
                       for item in listed):
                return False
        return True

    # Policy.

    def _change_policy(self, policy):
        listed = {}
        # Who is towards whom: protocols and remote endpoints by connection.
        remotes = [(holder, claim[0], claim[3:])
                   for claim, holder in self.switch.pool.items()]

        def chooser_for(port, connection):
            if port.name not in listed:
                listed[port.name] = self.engine.flows(port.name)
            if listed[port.name] is None:
                return None
            taken = []

            def run(chooser):
                try:
                    judged = port.judge_again(connection, chooser,
                                              self.now)
                except model.Unspecified:
                    judged = None
                taken.append(chooser)
                return judged

            hints = self._listed_ports(listed[port.name])
            others = ((port.former_keys | set(port.connections))
                      - set(connection.keys()))
            in_use = False
            matching = []
            refused = None
            by_former = collections.defaultdict(set)
            for judged in model.explore(run, hints):
                script = [index for index, _ in taken[-1].taken]
                if not judged:
                    refused = refused or script
                    continue
                flows = {flow.layer: flow for flow in judged[0]}
                if connection.alternatives:
                    # That is the first choice.
                    by_former[script[0]].add(str(self._visible(flows)))
                if self._is_listed(connection, listed[port.name], judged[1],
                                   judged[0]):
                    matching.append((script, flows))
                    continue
                in_use |= (model.OTHER[connection.direction],
                           judged[1]) in others
                claims = [t.claim for flow in judged[0]
                          for t in flow.translations if t.claim]
                in_use |= any(
                    holder is not connection
                    and (claim[0], claim[3:]) == (proto, remote)
                    for claim in claims for holder, proto, remote in remotes)
            if matching:
                choices = [flows for _, flows in matching]
                self._check_same(self._visible(flows) for flows in choices)
                return model.Chooser(matching[0][0], hints,
                                     self._alternatives(choices))
            # Has what could not be seen come to light?
            self._check_same(by_former.values())
            if in_use:
                # Who gets it depends on who is judged first.
                raise model.Unspecified('tuple in use after a change of '
                                        'policy')
            # Some choices may have it refused.
            return model.Chooser(refused, hints) if refused else None

        self.switch.set_policy(policy, self.now, chooser_for)

    # Inspection.

    def _what_to_trace(self, in_port, packet, guess, chosen):
        """A list of what to trace, a port, direction and packet, and the
        outcomes that the model allows besides the one that will have been.
        If the engine is free to decide something ('chosen'), a trace may
        decide otherwise than the packet, and the ports that the packet comes
        to later are up to that."""
        outcomes = guess.outcomes
        allowed = collections.defaultdict(list)
        if chosen:
            sender_first = outcomes and outcomes[0][1] == model.OUTBOUND
            outcomes = outcomes[:1] if sender_first else [
                o for o in outcomes if o[1] == model.INBOUND]

            def run(chooser):
                try:
                    return self.switch.receive(in_port, packet, self.now,
                                               chooser).outcomes
                except model.Unspecified:
                    return []

            def run_trace(chooser):
                chooser.is_trace = True
                return run(chooser)

            for others in (*model.explore(run), *model.explore(run_trace)):
                for port, direction, outcome in others:
                    allowed[port, direction].append(outcome)
        return [((port, direction, outcome.input), allowed[port, direction])
                for port, direction, outcome in outcomes
                if self.switch.ports[port].policy.layers]

    def _compare_traces(self, traced, traces, result):
        outcomes = {(port, direction): outcome
                    for port, direction, outcome in result.outcomes}
        for ((port, direction, _), allowed), trace in zip(traced, traces):
            outcome = outcomes.get((port, direction))
            if outcome is None or trace is None:
                continue
            problem = self._trace_problem(trace, outcome)
            if problem and all(self._trace_problem(trace, other)
                               for other in allowed):
                raise Disagreement('trace', self.step, (
                    '%s of %s %s %s, model: %s %s %s, trace: %s' % (
                        problem, port, direction, outcome.input,
                        outcome.verdict, outcome.reason, outcome.layers,
                        trace)))

    @staticmethod
    def _trace_problem(trace, outcome):
        if trace['verdict'] != outcome.verdict:
            return 'verdict'
        reasons = {outcome.reason} | outcome.also
        if outcome.verdict == 'drop' and trace['reason'] not in reasons:
            return 'reason'
        if outcome.also:
            return None
        if len(trace['layers']) != len(outcome.layers):
            return 'number of layers'
        for seen, expected in zip(trace['layers'], outcome.layers):
            if seen[0] != expected[0] or seen[2] != expected[2]:
                return 'layer'
            if None not in (seen[1], expected[1]) and seen[1] != expected[1]:
                return 'rule'
        return None

    def _compare_flows(self):
        self.engine.settle()
        prefix = '' if daemon.FLOW_TUPLES_OF_LAYER else 'connection_'

        def line(item, prefix):
            return '%s %s %s %s' % (
                item['layer'], item['state'],
                _tuple_text(item[prefix + 'outbound']),
                _tuple_text(item[prefix + 'inbound']))

        for name, port in self.switch.ports.items():
            if not port.policy.layers:
                continue
            seen = self.engine.flows(name)
            if seen is None:
                continue
            seen = collections.Counter(line(item, '') for item in seen)
            expected = collections.Counter(line(item, prefix)
                                           for item in port.list_flows())
            if seen != expected:
                raise Disagreement('flows', self.step, (
                    '%s: missing %s, unexpected %s' % (
                        name, sorted((expected - seen).elements()),
                        sorted((seen - expected).elements()))))


    def _compare_rules(self):
        for name, port in self.switch.ports.items():
            if not port.policy.layers:
                continue
            seen = self.engine.rule_packets(name)
            if seen is None:
                continue
            wrong = ['%s: %s, expected %s' % (rule, seen[rule],
                                              port.rule_packets[rule])
                     for rule in port.policy.rules
                     if seen[rule] != port.rule_packets[rule]]
            if wrong:
                raise Disagreement('rules', self.step, '%s: packets of %s' % (
                    name, '; '.join(wrong)))


def _tuple_text(key):
    return ','.join(map(str, key))


#
# The command.
#

def source_of(build):
    """The source directory of a build."""
    with open(os.path.join(build, 'Makefile')) as makefile:
        for line in makefile:
            if line.startswith('abs_top_srcdir = '):
                return line.split(' = ', 1)[1].strip()
    raise SystemExit('%s: no abs_top_srcdir in Makefile' % build)


def parse_options():
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description='Compares ovs-vswitchd with the model.')
    parser.add_argument('--build', required=True,
                        help="OVS's build directory")
    parser.add_argument('--schema', help='schema of the database, instead of '
                        "that of the build's source")
    parser.add_argument('--datapath-type', default='layered-dummy')
    parser.add_argument('--promote-packets', type=int, metavar='N',
                        help='after how many packets a connection gets a '
                        'datapath flow: 0 for all, many for none')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of the first case')
    parser.add_argument('--count', type=int, default=1000)
    parser.add_argument('--seconds', type=float, default=float('inf'),
                        help='end after that time')
    parser.add_argument('--shrink', action='store_true',
                        help='make a case smaller before writing it')
    parser.add_argument('--shrink-seconds', type=float, default=60)
    parser.add_argument('--keep', metavar='DIR', default='.',
                        help='where cases are written to')
    parser.add_argument('--keep-rundir', action='store_true',
                        help="leave the daemons' files")
    parser.add_argument('--replay', metavar='FILE', nargs='+',
                        help='run these cases only')
    parser.add_argument('--plain', action='store_true',
                        help='run the packets only, without any policy')
    parser.add_argument('--no-errors', action='store_true',
                        help='do not compare what is in error')
    parser.add_argument('--stop-after', type=int, default=10, metavar='N',
                        help='end after N disagreements')
    parser.add_argument('--nic', action='store_true',
                        help='have an emulated NIC see each packet first')
    parser.add_argument('--nic-table-size', type=int, default=65536,
                        metavar='N', help='size of its flow table')
    parser.add_argument('--nic-faults', action='store_true',
                        help='now and then have it fail, and change its size')
    parser.add_argument('-v', '--verbose', action='store_true')
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    if not options.schema:
        options.schema = os.path.join(source_of(options.build), 'vswitchd',
                                      'vswitch.ovsschema')
    return options


def cases(options):
    """Yields the cases to run."""
    if options.replay:
        for path in options.replay:
            with open(path) as file:
                case = json.load(file)
            yield case.get('case', case)
        return
    for seed in range(options.seed, options.seed + options.count):
        case = generate.make_case(seed)
        if options.plain:
            case = generate.without_policy(case)
        yield nic.for_nic(case) if options.nic else case


def failure(runner, case):
    """The disagreement that a case leads to, or None."""
    try:
        runner.run(case)
    except Disagreement as disagreement:
        return disagreement
    return None


def record(options, runner, case, disagreement):
    """Writes a case to a file, as small as may be, and says so."""
    if options.shrink:
        def fails(candidate):
            found = failure(runner, candidate)
            return found is not None and found.what == disagreement.what

        smaller = generate.shrink(case, fails, options.shrink_seconds)
        again = failure(runner, smaller)
        if again:
            case, disagreement = smaller, again
        else:
            print('seed %s: the disagreement did not come back'
                  % case.get('seed'))
    path = os.path.join(options.keep,
                        'disagreement-%s.json' % case.get('seed'))
    with open(path, 'w') as file:
        json.dump({'disagreement': str(disagreement), 'case': case}, file,
                  indent=1)
        file.write('\n')
    print('seed %s: %s\n  written to %s'
          % (case.get('seed'), disagreement, path), flush=True)


def main():
    """The command."""
    options = parse_options()
    os.makedirs(options.keep, exist_ok=True)
    # So that the daemons do not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    engine = (nic.NicDaemon if options.nic else daemon.Daemon)(options)
    runner = Runner(engine, check_errors=not options.no_errors)
    n = n_disagreements = 0
    deadline = time.monotonic() + options.seconds
    try:
        for case in cases(options):
            if time.monotonic() > deadline:
                break
            n += 1
            disagreement = failure(runner, case)
            if disagreement:
                n_disagreements += 1
                if options.replay:
                    print(disagreement)
                else:
                    n_packets, counts = runner.n_packets, engine.counts.copy()
                    record(options, runner, case, disagreement)
                    runner.n_packets, engine.counts = n_packets, counts
                if n_disagreements >= options.stop_after:
                    break
    finally:
        engine.stop()
    if options.verbose:
        print('%d packets came out, %d were sent again'
              % (runner.n_emitted, runner.n_cached))
        for reason, number in runner.open_ends.most_common():
            print('%d not run to the end: %s' % (number, reason))
    for line in engine.report():
        print(line)
    print('%d sequences, %d packets, %d disagreements'
          % (n, runner.n_packets, n_disagreements))
    return 1 if n_disagreements else 0


if __name__ == '__main__':
    sys.exit(main())
