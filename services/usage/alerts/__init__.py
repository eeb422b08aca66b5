"""Alerts: measured against rules, recorded once, told by signed webhooks; part of the live
process.
"""
