"""The one plot of the load kit: latency against the rate of requests, as SVG."""

import math

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 60, 50, 40, 90
COLOURS = {"p50ms": "#2563eb", "p99ms": "#dc2626"}


def latency(points):
    """`points`: (requests a second, p50 in ms, p99 in ms) by rate, rising."""
    rates = [rate for rate, *_ in points]
    values = [value for _, *both in points for value in both]
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(rate):
        return LEFT + (WIDTH - LEFT - RIGHT) * rate / max(rates)

    def y(ms):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (math.log10(ms) - least) / (most - least)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">Latency of durable charges against their rate, open loop</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">charges a second</text>',
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">ms</text>',
    ]
    for power in range(least, most + 1):
        for step in range(1, 10 if power < most else 2):
            ms = step * 10.0**power
            shade = "#bbb" if step == 1 else "#eee"
            parts.append(f'<path d="M{LEFT} {y(ms):.1f}H{WIDTH - RIGHT}" stroke="{shade}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(10.0**power) + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for rate in rates:
        parts.append(f'<text x="{x(rate):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{rate:,.0f}</text>')
    for column, (name, colour) in enumerate(COLOURS.items(), start=1):
        line = " ".join(f"{x(point[0]):.1f},{y(point[column]):.1f}" for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points:
            parts.append(f'<circle cx="{x(point[0]):.1f}" cy="{y(point[column]):.1f}" r="3" fill="{colour}"/>')
        end = y(points[-1][column]) + 4
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{end:.1f}" fill="{colour}">{name[:3]}</text>')
    return "\n".join([*parts, "</svg>", ""])
