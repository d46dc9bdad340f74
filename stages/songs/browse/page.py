"""The page of `mixstyle browse`: its layout and what a click does."""

import math
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from flask import Response, abort
from flask import request as http
from werkzeug.wrappers import Response as BaseResponse

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import printable
from mixstyle.pipeline.descriptors.presence import is_meaningful
from mixstyle.stages.presentation.descriptor_names import KINDS, shown, shown_unit
from mixstyle.stages.presentation.figures import SONG_COLOURS, STEM_COLOURS
from mixstyle.stages.songs.browse.audio import PARTS, Player
from mixstyle.stages.songs.browse.songs import Neighbour, Songs

CSS = """
* { box-sizing: border-box } body { margin: 0; font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fafafa }
header { padding: 12px 24px; border-bottom: 1px solid #e2e2e2; background: #fff }
header b { font-size: 18px } header span { color: #666; margin-left: 12px }
main { display: grid; grid-template-columns: minmax(420px, 1fr) minmax(480px, 1fr); gap: 20px; padding: 20px 24px }
section { background: #fff; border: 1px solid #e2e2e2; border-radius: 8px; padding: 14px 18px; min-width: 0 }
h2 { font-size: 15px; margin: 0 0 8px; overflow-wrap: anywhere }
h2 small, .dim { color: #666; font-weight: normal } .song { margin-bottom: 14px }
.part { display: grid; grid-template-columns: 64px 1fr; align-items: center; gap: 8px; margin: 3px 0 }
.part audio { height: 30px; width: 100% }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; border-bottom: 1px solid #ccc; position: sticky; top: 0; background: #fff }
td, th { padding: 3px 8px 3px 0; vertical-align: top } td.n, th.n { text-align: right; white-space: nowrap }
#descriptors { font-size: 13.5px } button.name { min-width: 110px }
tr.group td { font-weight: 600; padding-top: 10px } .scroll { max-height: 560px; overflow: auto }
button { font: inherit; border: 1px solid #bbb; background: #fff; border-radius: 5px; padding: 1px 9px }
button { cursor: pointer }
button:hover { background: #eef4fb } button.name { border: 0; padding: 0; color: #0062a3; text-align: left;
overflow-wrap: anywhere } .far { font-weight: 600 }
@media (max-width: 980px) { main { grid-template-columns: 1fr } }
"""
_INDEX = (
    """<!DOCTYPE html><html lang="en"><head>{%metas%}<meta name="viewport" content="width=device-width">
<title>{%title%}</title>{%css%}<style>"""
    + CSS
    + """</style></head><body>{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>"""
)
FAR_PERCENT = 50.0
"""Two songs further apart than this, in percentiles of the index, are shown in bold."""


def make_page(songs: Songs, player: Player, root: Path) -> Dash:
    """The application: page, clicks and audio."""
    app = Dash("mixstyle", title="mixstyle", update_title="", assets_folder="", index_string=_INDEX)
    app.layout = html.Div(
        [
            html.Header([html.B("mixstyle"), html.Span(f"{len(songs.names)} songs of {printable(root.name)}")]),
            dcc.Store(id="first", data=0),
            dcc.Store(id="second", data=None),
            html.Main(
                [
                    html.Section(
                        [
                            html.H2(["The map ", html.Small("click a song; drag to zoom, double-click to go back")]),
                            dcc.Graph(id="map", style={"height": "560px"}, config={"displayModeBar": False}),
                        ]
                    ),
                    html.Section(id="listen"),
                    html.Section(id="nearest"),
                    html.Section(id="values"),
                ]
            ),
        ]
    )
    _clicks(app, songs)
    _audio(app, player)
    return app


def _clicks(app: Dash, songs: Songs) -> None:
    @app.callback(
        Output("first", "data"),
        Output("second", "data"),
        Input("map", "clickData"),
        Input({"kind": "pick", "song": ALL}, "n_clicks"),
        Input({"kind": "beside", "song": ALL}, "n_clicks"),
        Input({"kind": "alone", "song": ALL}, "n_clicks"),
        State("first", "data"),
        prevent_initial_call=True,
    )
    def choose(click: Any, _picks: Any, _besides: Any, _alone: Any, first: int) -> tuple[Any, Any]:
        cause = ctx.triggered_id
        if cause == "map" and click:
            return int(click["points"][0]["customdata"]), None
        if not isinstance(cause, dict) or not ctx.triggered[0]["value"]:
            return no_update, no_update  # a list of buttons that was drawn anew
        if cause["kind"] == "pick":
            return int(cause["song"]), None
        return first, int(cause["song"]) if cause["kind"] == "beside" else None

    @app.callback(
        Output("map", "figure"),
        Output("listen", "children"),
        Output("nearest", "children"),
        Output("values", "children"),
        Input("first", "data"),
        Input("second", "data"),
    )
    def show(first: int, second: int | None) -> tuple[Any, ...]:
        chosen = [first] if second is None else [first, second]
        near = songs.nearest(first)
        return (
            _map(songs, chosen, near),
            [_song(songs, song, beside=place == 1) for place, song in enumerate(chosen)],
            _nearest(songs, near),
            _values(songs, chosen),
        )


def _audio(app: Dash, player: Player) -> None:
    @app.server.get("/audio/<int:song>/<part>")
    def audio(song: int, part: str) -> BaseResponse:
        try:
            data = player.part(song, part)
        except KeyError:
            abort(404)
        except MixstyleError as error:
            return Response(f"{printable(str(error))}\n", 410, mimetype="text/plain")
        response = Response(data, mimetype="audio/wav")
        response.headers["Cache-Control"] = "private, max-age=3600"
        response.accept_ranges = "bytes"
        return response.make_conditional(http, accept_ranges=True, complete_length=len(data))


def _map(songs: Songs, chosen: list[int], near: list[Neighbour]) -> go.Figure:
    points, share = songs.map
    figure = go.Figure()
    folders = sorted(set(songs.folders))
    for place, folder in enumerate(folders):
        members = [i for i, own in enumerate(songs.folders) if own == folder]
        colour = SONG_COLOURS[place % len(SONG_COLOURS)] if len(folders) <= len(SONG_COLOURS) else SONG_COLOURS[0]
        figure.add_scatter(
            x=points[members, 0],
            y=points[members, 1],
            mode="markers",
            name=folder or "songs",
            customdata=members,
            text=[escape(songs.names[i]) for i in members],  # plotly takes some of HTML
            hovertemplate="%{text}<extra></extra>",
            marker={"size": 9, "color": colour, "opacity": 0.75},
        )
    for neighbour in near:
        pair = points[[chosen[0], neighbour.song]]
        line = {"color": "#999", "width": 1}
        figure.add_scatter(x=pair[:, 0], y=pair[:, 1], mode="lines", line=line, hoverinfo="skip", showlegend=False)
    marker = {"size": 18, "color": "rgba(0,0,0,0)", "line": {"width": 2.5, "color": "black"}}
    figure.add_scatter(
        x=points[chosen, 0],
        y=points[chosen, 1],
        mode="markers+text",
        text=[escape(songs.names[i].rpartition("/")[2]) for i in chosen],
        textposition="top center",
        customdata=chosen,
        marker=marker,
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_layout(
        template="simple_white",
        margin={"l": 50, "r": 10, "t": 10, "b": 45},
        legend={"orientation": "h", "y": 1.06},
        showlegend=1 < len(folders) <= len(SONG_COLOURS),
        uirevision="map",
        xaxis_title=f"first principal component ({share[0]:.0%} of the variance)",
        yaxis_title=f"second ({share[1]:.0%})",
    )
    return figure


def _song(songs: Songs, song: int, beside: bool) -> html.Div:
    minutes, seconds = divmod(round(songs.durations_s[song]), 60)
    lufs = songs.loudness_lufs[song]
    level = "" if math.isnan(lufs) else f", {lufs:.1f} LUFS"
    head: list[Any] = [songs.names[song] + " ", html.Small(f"{minutes}:{seconds:02}{level}")]
    if beside:
        head += [" ", html.Button("close", id={"kind": "alone", "song": song})]
    players = [
        html.Div(
            [
                html.Span(part, style={"color": STEM_COLOURS.get(part, "#222")}),
                html.Audio(src=f"/audio/{song}/{part}", controls=True, preload="none", id=f"{part}-{int(beside)}"),
            ],
            className="part",
        )
        for part in PARTS
    ]
    return html.Div([html.H2(head), *players], className="song")


def _nearest(songs: Songs, near: list[Neighbour]) -> list[Any]:
    rows = [
        html.Tr(
            [
                html.Td(f"{n.score:.3f}", className="n"),
                html.Td(
                    html.Button(songs.names[n.song], id={"kind": "pick", "song": n.song}, className="name"),
                ),
                html.Td(str(n.alike[0]) if n.alike else ""),
                html.Td(str(n.apart[0]) if n.apart else ""),
                html.Td(html.Button("beside", id={"kind": "beside", "song": n.song})),
            ]
        )
        for n in near
    ]
    head = html.Tr([html.Th("cosine", className="n"), *map(html.Th, ("song", "most alike in", "most apart in", ""))])
    return [html.H2("Mixed most like it"), html.Table([html.Thead(head), html.Tbody(rows)])]


def _values(songs: Songs, chosen: list[int]) -> list[Any]:
    rows: list[Any] = []
    for group, of_group in KINDS.items():
        rows.append(html.Tr(html.Td(group, colSpan=len(STEMS) + 2), className="group"))
        for kind in of_group:
            cells = [_cell(songs, chosen, kind.columns.get(stem)) for stem in STEMS]
            unit = html.Td(shown_unit(kind.descriptor.unit), className="dim")
            rows.append(html.Tr([html.Td(kind.title), unit, *cells]))
    head = html.Tr([html.Th(""), html.Th(""), *(html.Th(stem, className="n") for stem in STEMS)])
    if len(chosen) == 1:
        told = "value, and percentile among the songs of the index"
    else:
        names = " / ".join(songs.names[i].rpartition("/")[2] for i in chosen)
        told = f"{names}; cosine {songs.cosine(*chosen):.3f}; bold: more than {FAR_PERCENT:g} percentiles apart"
    table = html.Table([html.Thead(head), html.Tbody(rows)], id="descriptors")
    return [html.H2(["Descriptors ", html.Small(told)]), html.Div(table, className="scroll")]


def _cell(songs: Songs, chosen: list[int], column: int | None) -> html.Td:
    if column is None:
        return html.Td("-", className="n dim")
    values = [songs.descriptors[song] for song in chosen]
    there = [is_meaningful(column, own) for own in values]
    texts = [shown(column, own[column]) if on else "-" for own, on in zip(values, there, strict=True)]
    ranks = [songs.percentile(song, column) for song in chosen]
    if len(chosen) == 1:
        return html.Td([texts[0], html.Small(f" {ranks[0]:.0f}" if there[0] else "", className="dim")], className="n")
    far = all(there) and abs(ranks[0] - ranks[1]) > FAR_PERCENT
    return html.Td(" / ".join(texts), className="n far" if far else "n")
