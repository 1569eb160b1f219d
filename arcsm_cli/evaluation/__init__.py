"""Likelihoods and the quadrature they rest on."""
