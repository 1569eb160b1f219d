# Completion for fish:  _ARCSM_COMPLETE=source_fish arcsm | source
function __arcsm_complete
    set -l words (commandline -opc)
    set -l current "$(commandline -ct)"
    for line in (env _ARCSM_COMPLETE=fish $words[1] $words[2..] "$current" 2>/dev/null)
        set -l parts (string split \t -- $line)
        if test "$parts[1]" = F
            __fish_complete_path (string replace -r -- '^--[\w-]+=' '' "$current")
        else
            printf '%s\t%s\n' $parts[2] "$parts[3]"
        end
    end
end
complete -c arcsm -f -a '(__arcsm_complete)'
