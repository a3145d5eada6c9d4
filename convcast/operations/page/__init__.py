"""latest/index.html: a viewer of the newest forecast's maps, and scores of the forecasts of the last day."""

from convcast.operations.page.write import write_page

__all__ = ["write_page"]
