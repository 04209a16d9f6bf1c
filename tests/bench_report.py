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

"""Tables, plots and files of the results of utilities/benchmark."""

import csv
import json
import math
import os
import statistics

COLORS = {'a': '#8c8c8c', 'b': '#d08030', 'c': '#3070b0'}
NAMES = {'a': 'no policy', 'b': 'conntrack', 'c': 'layers'}


def number(value):
    """'value' in few digits, as text."""
    if value is None:
        return '-'
    for limit, divisor, suffix in ((1e9, 1e9, ' G'), (1e6, 1e6, ' M'),
                                   (1e4, 1e3, ' k')):
        if abs(value) >= limit:
            return '%.3g%s' % (value / divisor, suffix)
    if value and abs(value) < 1000:
        return '%.3g' % value
    return '%.0f' % value


class Results:
    """Values by measure, contestant and round."""

    def __init__(self):
        self.values = {}                # (measure, contestant): {round: value}
        self.units = {}                 # measure: unit
        self.facts = []                 # Lines of text.
        self.problems = []              # Likewise.
        self.machine = []               # Likewise.

    def add(self, measure, contestant, round_, value, unit):
        self.values.setdefault((measure, contestant), {})[round_] = value
        self.units[measure] = unit

    def get(self, measure, contestant):
        """The values of all rounds, [] if there are none."""
        rounds = self.values.get((measure, contestant), {})
        return [rounds[key] for key in sorted(rounds)]

    def median(self, measure, contestant):
        values = self.get(measure, contestant)
        return statistics.median(values) if values else None

    def ratios(self, top, bottom):
        """The ratio, round for round, of two (measure, contestant)."""
        first, second = self.values.get(top, {}), self.values.get(bottom, {})
        return [first[r] / second[r] for r in sorted(first)
                if r in second and second[r]]

    def measures(self):
        """(measure, its contestants), in the order they were measured in."""
        order = {}
        for measure, contestant in self.values:
            order.setdefault(measure, []).append(contestant)
        return order.items()

    def table(self):
        """All the results, as rows of text."""
        rows = [('measure', 'contestant', 'median', 'lowest', 'highest',
                 'unit')]
        for measure, contestants in self.measures():
            for contestant in sorted(contestants):
                values = self.get(measure, contestant)
                rows.append((measure, contestant,
                             number(statistics.median(values)),
                             number(min(values)), number(max(values)),
                             self.units[measure]))
        return rows

    def not_finite(self):
        """The measures with values that are no finite numbers."""
        return sorted(set(measure for (measure, _), rounds
                          in self.values.items()
                          if not all(map(math.isfinite, rounds.values()))))

    def save(self, path):
        """Writes everything to a file, for load()."""
        with open(path, 'w') as f:
            json.dump({
                'machine': self.machine, 'facts': self.facts,
                'problems': self.problems, 'units': self.units,
                'values': [[measure, contestant, round_, value]
                           for (measure, contestant), rounds
                           in self.values.items()
                           for round_, value in rounds.items()]}, f, indent=1)
            f.write('\n')

    @staticmethod
    def load(*paths):
        """Returns what save() wrote to the files."""
        results = Results()
        for path in paths:
            with open(path) as f:
                data = json.load(f)
            results.machine += [line for line in data['machine']
                                if line not in results.machine]
            results.facts += data['facts']
            results.problems += data['problems']
            for measure, contestant, round_, value in data['values']:
                results.add(measure, contestant, round_, value,
                            data['units'][measure])
        return results

    def write_csv(self, path):
        with open(path, 'w', newline='') as f:
            writer = csv.writer(f)
            writer.writerow(['measure', 'contestant', 'round', 'value',
                             'unit'])
            for (measure, contestant), rounds in self.values.items():
                for round_, value in sorted(rounds.items()):
                    writer.writerow([measure, contestant, round_,
                                     repr(value), self.units[measure]])


class Target:
    """A bound of a figure that is derived from results."""

    def __init__(self, text, figures, at_least=None, at_most=None, unit=''):
        self.text = text
        self.figures = figures          # Function of Results: list of values.
        self.at_least = at_least
        self.at_most = at_most
        self.unit = unit

    def row(self, results):
        """(text, target, median, lowest, highest, "met" or the like), or None
        if it has not been measured."""
        values = self.figures(results)
        if not values:
            return None
        median = statistics.median(values)
        if self.at_least is not None:
            target = '>= %s' % number(self.at_least)
            met = median >= self.at_least
        elif self.at_most is not None:
            target = '<= %s' % number(self.at_most)
            met = median <= self.at_most
        else:
            target, met = '', None
        return (self.text, target + self.unit, number(median) + self.unit,
                '%s to %s' % (number(min(values)), number(max(values))),
                '' if met is None else 'met' if met else 'NOT MET')


def format_rows(rows):
    """A table as plain text; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ['  '.join(cell.ljust(width) for cell, width
                       in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, '  '.join('-' * width for width in widths))
    return '\n'.join(lines)


def format_markdown(rows):
    lines = ['| ' + ' | '.join(cell.replace('|', '\\|') for cell in row) + ' |'
             for row in rows]
    lines.insert(1, '|' + '---|' * len(rows[0]))
    return '\n'.join(lines)


def escape(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def ticks(most):
    """Round numbers from 0 to at least 'most'."""
    if most <= 0:
        return [0, 1]
    step = 10 ** math.floor(math.log10(most))
    for factor in 1, .5, .25, .2:
        if most / (step * factor) > 3:
            step *= factor
            break
    return [step * i for i in range(math.ceil(most / step - 1e-9) + 1)]


def svg_bars(title, unit, bars):
    """A plot of horizontal bars, one for each of (label, contestant, values),
    that is as long as the median, with a line from the lowest to the
    highest."""
    left = 24 + 8 * max(len(label) for label, _, _ in bars)
    width, right, height, top = 420, 90, 26, 76
    total = max(left + width + right, 560)
    bottom = top + height * len(bars)
    scale_ticks = ticks(max(max(values) for _, _, values in bars))
    scale = width / scale_ticks[-1]
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
           'viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">'
           % (total, bottom + 30, total, bottom + 30),
           '<rect width="100%" height="100%" fill="white"/>',
           '<text x="10" y="22" font-size="16" font-weight="bold">%s, %s'
           '</text>' % (escape(title), escape(unit))]
    x = 10
    for letter in sorted(set(contestant for _, contestant, _ in bars)):
        text = '(%s) %s' % (letter, NAMES[letter])
        out.append('<rect x="%d" y="36" width="12" height="12" fill="%s"/>'
                   '<text x="%d" y="47">%s</text>'
                   % (x, COLORS[letter], x + 18, text))
        x += 34 + 8 * len(text)
    for tick in scale_ticks:
        x = left + tick * scale
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" '
                   'stroke="#ddd"/>' % (x, top, x, bottom))
        out.append('<text x="%.1f" y="%d" fill="#555" text-anchor="middle">'
                   '%s</text>' % (x, bottom + 18, number(tick)))
    for i, (label, contestant, values) in enumerate(bars):
        y = top + height * i
        middle = y + height / 2
        median = statistics.median(values)
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>'
                   % (left - 8, middle + 4, escape(label)))
        out.append('<rect x="%d" y="%d" width="%.1f" height="%d" '
                   'fill="%s"/>' % (left, y + 4, median * scale, height - 8,
                                    COLORS[contestant]))
        low, high = left + min(values) * scale, left + max(values) * scale
        out.append('<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" '
                   'stroke="black" fill="none"/>'
                   % (low, middle, high, low, middle - 4, high, middle - 4))
        out.append('<text x="%.1f" y="%.1f">%s</text>'
                   % (left + width + 8, middle + 4, number(median)))
    out.append('</svg>')
    return '\n'.join(out) + '\n'


def write_plots(directory, plots, results):
    """Writes those of 'plots', (file name, title, list of (measure, label
    prefix)), for which there are results.  Returns (file name, title) of
    them."""
    written = []
    for name, title, measures in plots:
        bars, unit = [], ''
        for measure, prefix in measures:
            for contestant in 'abc':
                values = results.get(measure, contestant)
                if values:
                    bars.append((('%s (%s)' % (prefix, contestant)).strip(),
                                 contestant, values))
                    unit = results.units[measure]
        if bars:
            with open(os.path.join(directory, name), 'w') as f:
                f.write(svg_bars(title, unit, bars))
            written.append((name, title))
    return written
