"""The executor process itself: it runs SQL and knows neither Twisted nor the cluster."""
