"""The recommender: feedback, models, searches and releases, in pure Python that knows nothing of Airflow."""
