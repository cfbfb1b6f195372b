"""Run the stages of every line under Airflow: assets, tasks, policies and the console."""
