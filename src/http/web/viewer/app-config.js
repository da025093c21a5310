// OHIF's configuration: its data source is the server that this file comes from, whatever its URL.
// The server says here with whom to sign in, if one must.
const signIn = null;
(() => {
  const here = new URL(".", document.currentScript.src);
  const service = new URL("../dicom-web", here).href;
  window.config = {
    name: "cuspid",
    routerBasename: here.pathname,
    extensions: [],
    modes: [],
    customizationService: {},
    showStudyList: true,
    showLoadingIndicator: true,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    investigationalUseDialog: { option: "never" },
    maxNumberOfWebWorkers: 3,
    // Over HTTP/1.1 a browser has six requests under way to one server; more would only wait there.
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    showErrorDetails: "always",
    defaultDataSourceName: "dicomweb",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "dicomweb",
        configuration: {
          friendlyName: "Cuspid",
          name: "cuspid",
          qidoRoot: service,
          wadoRoot: service,
          wadoUriRoot: new URL("../wado", here).href,
          qidoSupportsIncludeField: true,
          supportsFuzzyMatching: true,
          supportsWildcard: true,
          supportsReject: false,
          dicomUploadEnabled: true,
          imageRendering: "wadors",
          thumbnailRendering: "thumbnail",
          thumbnailRequestStrategy: "fetch",
          enableStudyLazyLoad: true,
          singlepart: "bulkdata,video,pdf",
          bulkDataURI: { enabled: true },
          omitQuotationForMultipartRequest: true,
        },
      },
    ],
  };
  if (!signIn) return;

  // Without the slash: OHIF takes this off the path of `redirect_uri` and compares what is left, with its slash, with its own.
  window.config.routerBasename = here.pathname.replace(/\/$/, "");
  window.config.oidc = [
    {
      authority: signIn.issuer,
      client_id: signIn.client_id,
      scope: signIn.scope,
      response_type: "code",
      redirect_uri: new URL("callback", here).href,
      // The console, which forgets its own token then.
      post_logout_redirect_uri: new URL("../?signed-out", here).href,
      // A provider that cannot revoke access tokens would end the signing out with an error. They end soon by themselves.
      revokeAccessTokenOnSignout: false,
      automaticSilentRenew: true,
    },
  ];
  // Signs in again when the token has expired, which a provider that still knows the user does without asking. Once a minute: the page
  // of a user whose tokens are never accepted would else go round and round.
  window.config.httpErrorHandler = ({ status }) => {
    const key = "cuspid.signed-in-again";
    const last = Number(sessionStorage.getItem(key));
    if (status !== 401 || Date.now() - last < 60_000) return;
    sessionStorage.setItem(key, Date.now());
    location.reload();
  };
})();
